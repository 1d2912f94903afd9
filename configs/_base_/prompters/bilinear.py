"""Bilinear Prompt Tuning, shallow (BPT, arXiv 2506.22908). P and p are the paper's for FGVC."""
method = dict(
    title='BPT-shallow',
    recipe='bpt',
    prompter=dict(type='BilinearPrompt', num_tokens=100, rank=75, start='whiten'),
    camvid=dict(num_tokens=20, rank=15))
