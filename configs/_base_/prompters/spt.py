"""Self-Prompt Tuning (SPT, arXiv 2402.02382), deep. P and the start are those of its README."""
method = dict(
    title='SPT',
    recipe='spt',
    prompter=dict(type='SelfPrompt', num_tokens=20, deep=True, start='sample', position=False),
    camvid=dict(num_tokens=20))
