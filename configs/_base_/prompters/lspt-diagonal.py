"""LSPT with an LSTM cell whose matrices are diagonal (ours)."""
_base_ = './lspt.py'
method = dict(title='LSPT, diagonal cell', prompter=dict(cell='diagonal'))
