"""``lspt_upernet_camvid.py`` with Visual Fourier Prompt Tuning, deep (VFPT, arXiv 2411.01327)."""
_base_ = './lspt_upernet_camvid.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='FourierPrompt', num_tokens=20, deep=True, share=0.5, dropout=0.1)))
