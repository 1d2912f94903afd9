"""VIPAMIN (arXiv 2510.16446), deep with the paper's 20 prompts. The paper searches for k and lambda; 8 and 0 are ours."""
method = dict(
    title='VIPAMIN',
    recipe='adamw',
    lr=1e-3,
    prompter=dict(type='VIPAMIN', num_tokens=20, deep=True, neighbors=8, orthogonal=0.),
    benchmarks=dict(num_tokens=20))
