"""``lspt_segformer_ade20k.py`` with Gated Prompt Tuning (GaPT, arXiv 2306.05067)."""
_base_ = './lspt_segformer_ade20k.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='GatedPrompt', num_tokens=100, gate_init=10., dropout=0.1)))
