"""E2VPT (arXiv 2307.13770) without pruning. P and n are ours."""
method = dict(
    title='E2VPT',
    prompter=dict(type='E2VPT', num_tokens=10, num_keys_values=5, dropout=0.1),
    benchmarks=dict(num_tokens=10))
