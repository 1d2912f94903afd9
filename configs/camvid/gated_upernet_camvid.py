"""``lspt_upernet_camvid.py`` with Gated Prompt Tuning (GaPT, arXiv 2306.05067)."""
_base_ = './lspt_upernet_camvid.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='GatedPrompt', num_tokens=20, gate_init=5., dropout=0.1)))
