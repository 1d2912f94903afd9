"""LSPT with an LSTM cell whose matrices have rank 16 (ours)."""
_base_ = './lspt.py'
method = dict(title='LSPT, low-rank cell', prompter=dict(cell='low-rank', rank=16))
