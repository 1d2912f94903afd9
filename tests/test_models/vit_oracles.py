"""A slow, literal ViT for comparison; the methods' oracles and their table: method_table.py.

Nothing here is shared with the package: attention is a matmul and a softmax per head, norms are
their definitions, patches are cut by hand.
"""

import math

import torch
from torch.nn import functional as F

from lspt_mm.models import PromptedViT

ARCH = {'embed_dims': 16, 'num_layers': 3, 'num_heads': 4, 'feedforward_channels': 32}
PATCH, IMG = 8, 16  # a 2x2 grid


def build(prompter=None, seed=0, dtype=torch.float64, **kwargs):
    """A tiny PromptedViT in which no parameter is zero, one or shared by chance."""
    kwargs = dict({'arch': ARCH, 'img_size': IMG, 'patch_size': PATCH}, **kwargs)
    return randomize(PromptedViT(prompter=prompter, **kwargs).to(dtype), seed)


def randomize(module, seed=0):
    """Random values for all parameters, biases and norms included; reproducible by name order.

    For buffers too: what a method keeps fixed is as good as a parameter here.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = dict(module.named_parameters())
    tensors.update({n: b for n, b in module.named_buffers() if b.is_floating_point()})
    with torch.no_grad():
        for _, parameter in sorted(tensors.items()):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            # 0.3 keeps the softmax and the gates away from saturation at these widths.
            parameter.copy_(0.3 * noise + (parameter.dim() == 1) * 0.5)
    return module


def images(batch=2, height=IMG, width=IMG, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64).to(dtype)


def weighted_sum(outs):
    """A scalar that weighs every component of every output differently."""
    total = 0.0
    for i, out in enumerate(outs):
        weights = torch.arange(out.numel(), dtype=out.dtype).view(out.shape)
        total = total + (out * torch.sin(weights + i + 1)).sum()
    return total


# ---- the ViT ----------------------------------------------------------------------------------


def layer_norm(x, weight, bias, eps=1e-6):
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def attention(p, name, x, heads, temperature=1.0, further=None):
    """softmax(q k^T / sqrt(d) / tau) v head by head, projected; ``x`` is normalised already.

    ``further``: keys and values (H, n, d) each, appended to those of the tokens.
    """
    width = x.size(-1)
    d = width // heads
    packed = x @ p[name + 'qkv.weight'].T
    if name + 'qkv.bias' in p:
        packed = packed + p[name + 'qkv.bias']
    q, k, v = packed[..., :width], packed[..., width : 2 * width], packed[..., 2 * width :]
    out = []
    for h in range(heads):
        s = slice(h * d, (h + 1) * d)
        key, value = k[..., s], v[..., s]
        if further is not None:
            key = torch.cat((key, further[0][h].expand(len(x), -1, -1)), 1)
            value = torch.cat((value, further[1][h].expand(len(x), -1, -1)), 1)
        logits = q[..., s] @ key.transpose(1, 2) / math.sqrt(d) / temperature
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
        out.append(weights @ value)
    return torch.cat(out, -1) @ p[name + 'proj.weight'].T + p[name + 'proj.bias']


def block(p, name, x, heads, temperature=1.0, further=None, inside=None):
    """Pre-norm encoder layer on tokens (B, T, D).

    ``inside``: functions of a method, by place: ``attention_output(out, normed)``,
    ``before_mlp(x)``, ``block_output(x)``.
    """
    inside = inside or {}
    normed = layer_norm(x, p[name + 'ln1.weight'], p[name + 'ln1.bias'])
    out = attention(p, name + 'attn.', normed, heads, temperature, further)
    out = inside.get('attention_output', lambda y, _: y)(out, normed)
    x = x + out * p.get(name + 'attn.gamma1.weight', 1.0)
    x = inside.get('before_mlp', lambda y: y)(x)
    y = layer_norm(x, p[name + 'ln2.weight'], p[name + 'ln2.bias'])
    y = gelu(y @ p[name + 'ffn.layers.0.0.weight'].T + p[name + 'ffn.layers.0.0.bias'])
    y = y @ p[name + 'ffn.layers.1.weight'].T + p[name + 'ffn.layers.1.bias']
    x = x + y * p.get(name + 'ffn.gamma2.weight', 1.0)
    return inside.get('block_output', lambda y: y)(x)


def embed(p, img, patch, grid, extra):
    """Patches cut by hand, class token in front, position embedding on top."""
    batch, _, height, width = img.shape
    h, w = height // patch, width // patch
    kernel = p['patch_embed.projection.weight'].flatten(1)  # (D, 3*patch*patch)
    tokens = []
    for row in range(h):
        for col in range(w):
            rows = slice(row * patch, (row + 1) * patch)
            cols = slice(col * patch, (col + 1) * patch)
            tokens.append(img[:, :, rows, cols].flatten(1) @ kernel.T)
    x = torch.stack(tokens, 1) + p['patch_embed.projection.bias']
    pos = p['pos_embed']
    if (h, w) != grid:
        maps = pos[:, extra:].reshape(1, *grid, -1).permute(0, 3, 1, 2)
        # mmpretrain resizes in float32 whatever the model's type.
        maps = F.interpolate(maps.float(), size=(h, w), mode='bicubic', align_corners=False)
        maps = maps.to(pos.dtype).permute(0, 2, 3, 1).reshape(1, h * w, -1)
        pos = torch.cat((pos[:, :extra], maps), 1)
    if extra:
        x = torch.cat((p['cls_token'].expand(batch, -1, -1), x), 1)
    return x + pos, (h, w)


def literal_output(p, x, prompts, extra, hw, out_type, normed):
    def norm(t):
        return layer_norm(t, p['ln1.weight'], p['ln1.bias']) if normed else t

    if out_type == 'raw':
        return norm(x)
    if out_type == 'cls_token':
        return norm(x)[:, 0]
    if out_type == 'featmap':
        patches = norm(x)[:, extra:]
        rows = [patches[:, r * hw[1] : (r + 1) * hw[1]] for r in range(hw[0])]
        return torch.stack(rows, 1).permute(0, 3, 1, 2)
    if out_type == 'avg_featmap':
        mean = norm(x)[:, extra:].mean(1)
        return layer_norm(mean, p['ln2.weight'], p['ln2.bias'])
    # GaPT's protocol pools first and normalises the mean.
    if out_type == 'avg_prompts':
        return norm(prompts.mean(1))
    patches = x[:, extra:]
    if out_type == 'avg_patches':
        return norm(patches.mean(1))
    tokens = patches if prompts is None else torch.cat((prompts, patches), 1)
    return norm(tokens.mean(1))
