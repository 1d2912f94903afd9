"""LSPT without LPC, the LSTM over blocks (ablation)."""
_base_ = './lspt.py'
method = dict(title='LSPT without LPC', prompter=dict(lpc=False))
