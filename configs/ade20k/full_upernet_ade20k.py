"""``lspt_upernet_ade20k.py`` with the whole ViT tuned, without prompts."""
_base_ = '../lspt_upernet_ade20k.py'
model = dict(backbone=dict(prompter=None, tune='full'))
# A lower learning rate than for heads alone. MAE's own recipe also has layer decay, drop path and relative
# positions (published with it: 48.13).
optim_wrapper = dict(optimizer=dict(lr=1e-4))
