"""VIPAMIN (arXiv 2510.16446) in the first block alone, with 100 prompts: the form of its published results on MAE and MoCo v3. k and lambda are ours."""
method = dict(
    title='VIPAMIN-shallow',
    recipe='adamw',
    lr=1e-3,
    prompter=dict(type='VIPAMIN', num_tokens=100, neighbors=8, orthogonal=0.),
    benchmarks=dict(num_tokens=100))
