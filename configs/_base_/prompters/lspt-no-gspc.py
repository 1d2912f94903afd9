"""LSPT without GSPC, the mean of the patches (ablation)."""
_base_ = './lspt.py'
method = dict(title='LSPT without GSPC', prompter=dict(gspc=False))
