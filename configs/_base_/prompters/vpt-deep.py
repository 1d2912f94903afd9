"""VPT-deep (arXiv 2203.12119). 10 prompts in each of the 12 blocks, as in GaPT's paper for FGVC."""
method = dict(
    title='VPT-deep',
    prompter=dict(type='VPT', num_tokens=10, deep=True, dropout=0.1),
    camvid=dict(num_tokens=20),
    benchmarks=dict(num_tokens=10))
