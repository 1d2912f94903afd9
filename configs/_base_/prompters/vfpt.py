"""Visual Fourier Prompt Tuning (VFPT, arXiv 2411.01327), deep. Number and share of prompts are ours."""
method = dict(
    title='VFPT',
    prompter=dict(type='FourierPrompt', num_tokens=10, deep=True, share=0.5, dropout=0.1),
    camvid=dict(num_tokens=20),
    benchmarks=dict(num_tokens=10))
