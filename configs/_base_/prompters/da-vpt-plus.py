"""DA-VPT+ (arXiv 2505.23694): also biases, those of its code for MAE. A packed qkv bias is trained as a whole."""
_base_ = './da-vpt.py'
method = dict(title='DA-VPT+', tune='prompts+bias-v-proj-fc2-norm2')
