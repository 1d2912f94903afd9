"""VPT-shallow (arXiv 2203.12119)."""
method = dict(
    title='VPT-shallow',
    prompter=dict(type='VPT', num_tokens=100),
    camvid=dict(num_tokens=20))
