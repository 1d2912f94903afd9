"""Approximated Prompt Tuning (arXiv 2306.15706), of the paper's rank 4. P is the paper's for ViLT; 50 is that of its code."""
method = dict(
    title='Approximated PT',
    recipe='adamw',
    lr=1e-3,
    prompter=dict(type='ApproximatedPrompt', num_tokens=200),
    benchmarks=dict(num_tokens=50))
