"""Cross Visual Prompt Tuning (CVPT, arXiv 2408.14961). The paper's 200 prompts for ADE20K, 5 to 20 for benchmarks.

``biases=False`` is ours: with the paper's ``True``, training starts far from the ViT's own features (docs/methods.md).
"""
method = dict(
    title='CVPT',
    recipe='adamw',
    lr=1e-3,
    prompter=dict(type='CVPT', num_tokens=200, biases=False, dropout=0.1),
    benchmarks=dict(num_tokens=10))
