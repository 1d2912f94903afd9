"""The image half of DAPT (arXiv 2309.03406) around VPT-shallow, for classification. P and the weight are the paper's."""
method = dict(
    title='DAPT',
    lr=1e-3,
    prompter=dict(type='PrototypePrompt', num_tokens=16, prompter=dict(type='VPT'), weight=0.1),
    benchmarks=dict(num_tokens=16))
