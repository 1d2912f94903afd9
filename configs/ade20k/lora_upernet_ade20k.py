"""``lspt_upernet_ade20k.py`` with LoRA of rank 8 on queries, keys and values of the ViT, without prompts."""
_base_ = '../lspt_upernet_ade20k.py'
model = dict(backbone=dict(prompter=None, tune='lora-8'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(lora=dict(lr_mult=10., decay_mult=0.))))
