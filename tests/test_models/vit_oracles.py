"""Slow, literal oracles for prompted ViTs, and the table of methods the shared tests run over.

Nothing here is shared with the package: attention is a matmul and a softmax per head, norms are
their definitions, every block concatenates ``[cls | prompts | patches]`` whether or not anybody
reads what becomes of the prompts, and the LSTM is torch.nn.LSTMCell, one token at a time.
"""

import math

import torch
from torch.nn import functional as F

from lspt_mm.models import PromptedViT

ARCH = {'embed_dims': 16, 'num_layers': 3, 'num_heads': 4, 'feedforward_channels': 32}
PATCH, IMG = 8, 16  # a 2x2 grid

#: Every method once: the shared tests (freezing, serialisation, threads, ...) run over these.
#: A new method is one row here and one function in LITERALS.
METHODS = {
    'lspt': {'type': 'LSPT', 'num_tokens': 3},
    'lspt-low-rank': {
        'type': 'LSPT',
        'num_tokens': 3,
        'cell': 'low-rank',
        'rank': 2,
        'hidden_norm': True,
    },
    'lspt-diagonal-own': {
        'type': 'LSPT',
        'num_tokens': 2,
        'cell': 'diagonal',
        'inserted': 'own',
        'cell_state': 'learned',
    },
    'lspt-no-lpc': {'type': 'LSPT', 'num_tokens': 3, 'lpc': False},
    'lspt-late': {'type': 'LSPT', 'num_tokens': 3, 'start_block': 2},
    'lspt-last-block': {'type': 'LSPT', 'num_tokens': 3, 'start_block': ARCH['num_layers']},
    'vpt': {'type': 'VPT', 'num_tokens': 3},
    'vpt-deep': {'type': 'VPT', 'num_tokens': 3, 'deep': True},
    'vpt-deep-2-projected': {
        'type': 'VPT',
        'num_tokens': 3,
        'deep': True,
        'deep_blocks': 2,
        'project': 5,
    },
    'vpt-shared-late': {
        'type': 'VPT',
        'num_tokens': 2,
        'deep': True,
        'shared': True,
        'start_block': 2,
    },
    'gated': {'type': 'GatedPrompt', 'num_tokens': 3, 'gate_init': 1.0},
    'gated-late': {'type': 'GatedPrompt', 'num_tokens': 2, 'start_block': 2},
    'bilinear': {'type': 'BilinearPrompt', 'num_tokens': 3, 'rank': 2},
    'bilinear-deep': {
        'type': 'BilinearPrompt',
        'num_tokens': 3,
        'rank': 2,
        'deep': True,
        'trained_right': 2,
    },
    'fwhiten': {'type': 'BilinearPrompt', 'num_tokens': 3, 'mode': 'fwhiten'},
    'twhiten-deep-late': {
        'type': 'BilinearPrompt',
        'num_tokens': 2,
        'mode': 'twhiten',
        'deep': True,
        'start_block': 2,
    },
    'spt': {'type': 'SelfPrompt', 'num_tokens': 3, 'deep': True},
    'vfpt': {'type': 'FourierPrompt', 'num_tokens': 4, 'deep': True},
}


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


def attention(p, name, x, heads, temperature=1.0):
    """softmax(q k^T / sqrt(d) / tau) v head by head; ``x`` is normalised already."""
    width = x.size(-1)
    d = width // heads
    packed = x @ p[name + 'qkv.weight'].T
    if name + 'qkv.bias' in p:
        packed = packed + p[name + 'qkv.bias']
    q, k, v = packed[..., :width], packed[..., width : 2 * width], packed[..., 2 * width :]
    out = []
    for h in range(heads):
        s = slice(h * d, (h + 1) * d)
        logits = q[..., s] @ k[..., s].transpose(1, 2) / math.sqrt(d) / temperature
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
        out.append(weights @ v[..., s])
    out = torch.cat(out, -1) @ p[name + 'proj.weight'].T + p[name + 'proj.bias']
    return out * p.get(name + 'gamma1.weight', 1.0)


def block(p, name, x, heads, temperature=1.0):
    """Pre-norm encoder layer on tokens (B, T, D)."""
    normed = layer_norm(x, p[name + 'ln1.weight'], p[name + 'ln1.bias'])
    x = x + attention(p, name + 'attn.', normed, heads, temperature)
    y = layer_norm(x, p[name + 'ln2.weight'], p[name + 'ln2.bias'])
    y = gelu(y @ p[name + 'ffn.layers.0.0.weight'].T + p[name + 'ffn.layers.0.0.bias'])
    y = y @ p[name + 'ffn.layers.1.weight'].T + p[name + 'ffn.layers.1.bias']
    return x + y * p.get(name + 'ffn.gamma2.weight', 1.0)


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


def literal_forward(model, img, cfg, out_type, out_indices, final_norm=True):
    """What ``PromptedViT`` with prompter ``cfg`` has to return, on the parameters of ``model``."""
    p = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    depth, heads = model.num_layers, model.layers[0].attn.num_heads
    extra = int('cls_token' in p)
    grid = tuple(model.patch_embed.init_out_size)
    x, (h, w) = embed(p, img, PATCH, grid, extra)
    start = cfg.get('start_block', 1)
    next_prompts = LITERALS[cfg['type']]
    temperatures = TEMPERATURES.get(cfg['type'], lambda p, cfg, step: 1.0)
    outs, prompts, memory = [], None, None
    for l in range(1, depth + 1):
        if l == start:
            prompts, memory = next_prompts(p, cfg, 0, None, x[:, extra:], None)
        if prompts is None:
            x = block(p, f'layers.{l - 1}.', x, heads)
        else:
            count = prompts.size(1)
            tokens = torch.cat((x[:, :extra], prompts, x[:, extra:]), 1)
            tau = temperatures(p, cfg, l - start)
            tokens = block(p, f'layers.{l - 1}.', tokens, heads, tau)
            prompts = tokens[:, extra : extra + count]
            x = torch.cat((tokens[:, :extra], tokens[:, extra + count :]), 1)

        if l - 1 in out_indices:
            normed = final_norm and l == depth
            outs.append(_literal_output(p, x, prompts, extra, (h, w), out_type, normed))
        if prompts is not None and l < depth:
            prompts, memory = next_prompts(p, cfg, l - start + 1, prompts, x[:, extra:], memory)
    return outs


def _literal_output(p, x, prompts, extra, hw, out_type, normed):
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


# ---- methods ----------------------------------------------------------------------------------


def gate_matrices(p, cell, half):
    """The (4D, D) matrix a cell of any width stands for."""
    name = f'prompter.lstm.weight_{half}'
    if cell == 'full':
        return p[name]
    if cell == 'low-rank':
        return p[name + '_u'] @ p[name + '_v']
    return torch.cat([torch.diag(gate) for gate in p[name].chunk(4)], 0)


def literal_lspt(p, cfg, step, seen, patches, memory):
    """LSPT after block start+step-1 (step 0: what enters first); memory is C, (B, P, D)."""
    batch, _, width = patches.shape
    sets, count = p['prompter.prompts'], cfg['num_tokens']
    own = cfg.get('inserted', 'first') == 'own'
    if step == 0:
        cell = p.get('prompter.initial_cell', patches.new_zeros(count, width))
        return sets[0].expand(batch, -1, -1), cell.expand(batch, -1, -1)
    inserted = sets[step - 1] if own else sets[step]
    hidden = seen
    if cfg.get('gspc', True):
        mean = sum(patches[:, n] for n in range(patches.size(1))) / patches.size(1)
        hidden = torch.stack([seen[:, t] + mean for t in range(count)], 1)
    if cfg.get('hidden_norm', False):
        hidden = layer_norm(hidden, 1.0, 0.0, eps=1e-5)
    if not cfg.get('lpc', True):
        return inserted + hidden, memory

    kind = cfg.get('cell', 'full')
    weights = {
        'weight_ih': gate_matrices(p, kind, 'ih'),
        'weight_hh': gate_matrices(p, kind, 'hh'),
        'bias_ih': p['prompter.lstm.bias_ih'],
        'bias_hh': p['prompter.lstm.bias_hh'],
    }
    lstm = torch.nn.LSTMCell(width, width, dtype=patches.dtype)
    prompts, cells = [], []
    for t in range(count):
        args = (inserted[t].expand(batch, -1), (hidden[:, t], memory[:, t]))
        h, c = torch.func.functional_call(lstm, weights, args)
        prompts.append(h)
        cells.append(c)
    return torch.stack(prompts, 1), torch.stack(cells, 1)


def literal_vpt(p, cfg, step, seen, patches, memory):
    """VPT: prompts for the first block, or for each of the first k."""
    deep, sets = cfg.get('deep', False), p['prompter.prompts']
    if 'project' in cfg:
        weight, bias = p['prompter.projection.weight'], p['prompter.projection.bias']
        sets = torch.stack([torch.stack([weight @ t + bias for t in one]) for one in sets])
    if cfg['type'] == 'FourierPrompt':
        sets = torch.stack([literal_fourier(one, cfg.get('share', 0.5)) for one in sets])
    depth = len({name.split('.')[1] for name in p if name.startswith('layers.')})
    prompted = depth - cfg.get('start_block', 1) + 1
    k = (cfg.get('deep_blocks') or prompted) if deep else 1
    if step < k:
        one = sets[0 if cfg.get('shared') else step]
        return one.expand(patches.size(0), -1, -1), None
    return (seen if cfg.get('afterwards', 'carry') == 'carry' else None), None


def literal_fourier(prompts, share):
    """Re of the double sum over tokens and channels, for the first share of P prompts."""
    m = round(share * prompts.size(0))

    def angles(size):
        k = torch.arange(size, dtype=prompts.dtype)
        return 2 * math.pi * torch.outer(k, k) / size

    # Re(sum_t sum_c p e^{-i(a + b)}), with cos(a + b) = cos a cos b - sin a sin b.
    over_tokens, over_channels = angles(m), angles(prompts.size(1))
    changed = over_tokens.cos() @ prompts[:m] @ over_channels.cos()
    changed = changed - over_tokens.sin() @ prompts[:m] @ over_channels.sin()
    return torch.cat((changed, prompts[m:]))


def literal_gated(p, cfg, step, seen, patches, memory):
    """GaPT; memory is what entered the block, P_{l-1}."""
    if step == 0:
        prompts = p['prompter.prompts'][0].expand(patches.size(0), -1, -1)
    else:
        gamma = p['prompter.gate_logits'][step - 1]
        gate = (gamma > 0).to(gamma.dtype) if cfg.get('hard') else 1 / (1 + torch.exp(-gamma))
        prompts = gate * seen + (1 - gate) * memory
    return prompts, prompts


def literal_temperature(p, cfg, step):
    """GaPT's tau of the step-th block with prompts."""
    if not cfg.get('shaping', True):
        return 1.0
    return min(max(p['prompter.temperatures'][step], 0.01), 10.0)


def literal_bilinear(p, cfg, step, seen, patches, memory):
    """BPT: A B^T, an outer product at a time."""
    if step > 0 and not cfg.get('deep', False):
        return seen, None
    names = ('prompter.right_fixed', 'prompter.right_tuned')
    factors = [one for name in names if name in p for one in p[name]]
    left, right = p['prompter.left'][step], factors[step]
    prompts = sum(torch.outer(left[:, k], right[:, k]) for k in range(left.size(1)))
    return prompts.expand(patches.size(0), -1, -1), None


#: ``f(params, cfg, step, prompts_out, patches, memory) -> prompts, memory`` per method.
LITERALS = {
    'LSPT': literal_lspt,
    'VPT': literal_vpt,
    'GatedPrompt': literal_gated,
    'BilinearPrompt': literal_bilinear,
    'SelfPrompt': literal_vpt,
    'FourierPrompt': literal_vpt,
}
#: ``f(params, cfg, step) -> tau`` of methods that shape attention.
TEMPERATURES = {'GatedPrompt': literal_temperature}
