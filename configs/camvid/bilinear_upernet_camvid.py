"""``lspt_upernet_camvid.py`` with Bilinear Prompt Tuning, shallow (BPT, arXiv 2506.22908)."""
_base_ = './lspt_upernet_camvid.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='BilinearPrompt', num_tokens=20, rank=15, start='whiten')))
