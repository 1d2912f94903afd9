"""Prompt Condensation (arXiv 2305.17223). 30 % kept is the paper's; the number of prompts, the moment and the rate are ours."""
method = dict(
    title='Prompt Condensation',
    prompter=dict(type='CondensedPrompt', num_tokens=50, keep=0.3, at=0.5, dropout=0.1),
    lr=1e-3,
    benchmarks=dict(num_tokens=50))
