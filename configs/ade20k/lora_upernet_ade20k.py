"""``lspt_upernet_ade20k.py`` with LoRA of rank 8 on queries, keys and values of the ViT, without prompts."""
_base_ = '../lspt_upernet_ade20k.py'
model = dict(backbone=dict(prompter=None, tune='lora-8'))
