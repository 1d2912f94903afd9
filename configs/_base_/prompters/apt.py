"""Attention Prompt Tuning (APT, arXiv 2403.06978), for images. P is the paper's for video."""
method = dict(
    title='APT',
    recipe='adamw',
    prompter=dict(type='APT', num_tokens=200, dropout=0.1),
    benchmarks=dict(num_tokens=200))
