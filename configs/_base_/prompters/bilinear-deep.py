"""Bilinear Prompt Tuning, deep (BPT, arXiv 2506.22908). P and p are the paper's for FGVC."""
method = dict(
    title='BPT-deep',
    recipe='bpt',
    prompter=dict(type='BilinearPrompt', num_tokens=50, rank=50, deep=True, start='whiten'),
    camvid=dict(num_tokens=20, rank=20))
