"""DA-VPT (arXiv 2505.23694). P and the weights of the losses are the paper's for MAE on most tasks of VTAB."""
method = dict(
    title='DA-VPT',
    recipe='adamw',
    lr=1e-3,
    prompter=dict(type='DAVPT', num_tokens=5, guided_tokens=10, patch_weight=0.01, class_weight=0.01),
    benchmarks=dict(num_tokens=5))
