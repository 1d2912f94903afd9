"""NSP2 (arXiv 2406.05658), for tasks one after the other (tools/continual.py). P, eta and the rate are the paper's."""
method = dict(
    title='NSP2',
    recipe='adamw',
    lr=1e-2,
    prompter=dict(type='NSP2', num_tokens=4, eta=0.97),
    benchmarks=dict(num_tokens=4))
