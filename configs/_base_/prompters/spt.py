"""Self-Prompt Tuning (SPT, arXiv 2402.02382): deep, shallow in the benchmarks. The number of prompts is ours."""
method = dict(
    title='SPT',
    prompter=dict(type='SelfPrompt', num_tokens=10, deep=True, start='sample', dropout=0.1),
    camvid=dict(num_tokens=20),
    benchmarks=dict(deep=False, dropout=0.))
