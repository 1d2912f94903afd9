"""Visual Adaptive Prompt Tuning (VAPT, arXiv 2501.18936). K, r and dropout are the defaults of its code; so is P in its README."""
method = dict(
    title='VAPT',
    prompter=dict(type='VAPT', num_tokens=10, kernel_size=2, rank=8, dropout=0.1),
    benchmarks=dict(num_tokens=10))
