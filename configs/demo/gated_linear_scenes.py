"""``lspt_linear_scenes.py`` with Gated Prompt Tuning (GaPT, arXiv 2306.05067)."""
_base_ = './lspt_linear_scenes.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='GatedPrompt', num_tokens=10, gate_init=5., dropout=0.1)))
