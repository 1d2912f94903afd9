"""PAE (arXiv 2601.20232) around VPT-deep with its 10 prompts in every block."""
method = dict(
    title='PAE',
    lr=1e-3,
    prompter=dict(type='PAE', num_tokens=10, prompter=dict(type='VPT', deep=True), dropout=0.1),
    benchmarks=dict(num_tokens=10))
