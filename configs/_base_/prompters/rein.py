"""Rein (arXiv 2312.04265) with the paper's 100 tokens, of rank 16."""
method = dict(
    title='Rein',
    recipe='adamw',
    lr=1e-3,
    prompter=dict(type='Rein', num_tokens=100, rank=16),
    benchmarks=dict(num_tokens=100))
