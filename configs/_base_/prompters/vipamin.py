"""VIPAMIN (arXiv 2510.16446), deep with the paper's 20 prompts. k and lambda are ours; the paper searches for them."""
method = dict(
    title='VIPAMIN',
    recipe='adamw',
    lr=1e-3,
    prompter=dict(type='VIPAMIN', num_tokens=20, deep=True, neighbors=8, orthogonal=0.5),
    benchmarks=dict(num_tokens=20))
