"""VPT-deep and the biases of the ViT, tuned together."""
_base_ = './vpt-deep.py'
method = dict(title='VPT-deep and biases', tune='prompts+bias')
