"""Gated Prompt Tuning (GaPT, arXiv 2306.05067). P and gate init as in its table for ADE20K."""
method = dict(
    title='GaPT',
    prompter=dict(type='GatedPrompt', num_tokens=100, gate_init=10., dropout=0.1, dropout_mask='image'),
    camvid=dict(num_tokens=20, gate_init=5.))
