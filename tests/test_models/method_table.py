"""The table of methods that the shared tests run over, and a literal re-writing of each.

Nothing here is shared with the package: every block concatenates ``[cls | prompts | patches]``
whether or not anybody reads what becomes of the prompts, and the LSTM is torch.nn.LSTMCell, one
token at a time.
"""

import math
from typing import Callable, NamedTuple

import torch
from vit_oracles import ARCH, PATCH, block, embed, layer_norm, literal_output

L_OF_VIT_B = 12

#: Every method, with what makes it run through code of its own; the shared tests (equations,
#: freezing, gradients, serialisation, threads, ...) run over these. A new method is a row here
#: and one in ORACLES.
METHODS = {
    'lspt': {'type': 'LSPT', 'num_tokens': 3},
    'lspt-low-rank': {
        'type': 'LSPT',
        'num_tokens': 3,
        'cell': 'low-rank',
        'rank': 2,
        'hidden_norm': True,
    },
    'lspt-diagonal': {'type': 'LSPT', 'num_tokens': 2, 'cell': 'diagonal'},
    'lspt-no-lpc': {'type': 'LSPT', 'num_tokens': 3, 'lpc': False},
    'lspt-late': {'type': 'LSPT', 'num_tokens': 3, 'start_block': 2},
    'lspt-own-prompts': {'type': 'LSPT', 'num_tokens': 3, 'standardize': True, 'own_prompts': True},
    'lspt-last-block': {'type': 'LSPT', 'num_tokens': 3, 'start_block': ARCH['num_layers']},
    'vpt': {'type': 'VPT', 'num_tokens': 3},
    'vpt-deep': {'type': 'VPT', 'num_tokens': 3, 'deep': True},
    'vpt-deep-projected': {'type': 'VPT', 'num_tokens': 3, 'deep': True, 'project': 5},
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
    'vipamin': {'type': 'VIPAMIN', 'num_tokens': 3},
    'vipamin-deep-late': {'type': 'VIPAMIN', 'num_tokens': 2, 'deep': True, 'start_block': 2},
    'vfpt': {'type': 'FourierPrompt', 'num_tokens': 4, 'deep': True},
    'vapt': {'type': 'VAPT', 'num_tokens': 3, 'kernel_size': 1, 'rank': 2},
    'vapt-late': {
        'type': 'VAPT',
        'num_tokens': 2,
        'kernel_size': 1,
        'rank': 3,
        'start_block': 2,
    },
    'apt': {'type': 'APT', 'num_tokens': 3},
    'apt-late': {'type': 'APT', 'num_tokens': 2, 'start_block': 2},
    'rein': {'type': 'Rein', 'num_tokens': 4},
    'rein-low-rank-late': {'type': 'Rein', 'num_tokens': 3, 'rank': 2, 'start_block': 2},
    'e2vpt': {'type': 'E2VPT', 'num_tokens': 3, 'num_keys_values': 2},
    'e2vpt-pruned-late': {
        'type': 'E2VPT',
        'num_tokens': 2,
        'num_keys_values': 1,
        'prune': 0.5,
        'start_block': 2,
    },
    'cvpt': {'type': 'CVPT', 'num_tokens': 3},
    'cvpt-late': {'type': 'CVPT', 'num_tokens': 2, 'start_block': 2},
    'approximated': {'type': 'ApproximatedPrompt', 'num_tokens': 4, 'rank': 2},
    'approximated-late': {'type': 'ApproximatedPrompt', 'num_tokens': 3, 'start_block': 2},
    'pro-vpt': {'type': 'PROVPT', 'num_tokens': 3},
    'pro-vpt-ppo-late': {'type': 'PROVPT', 'num_tokens': 2, 'policy': 'ppo', 'start_block': 2},
    'condensed': {'type': 'CondensedPrompt', 'num_tokens': 3},
    'condensed-late': {'type': 'CondensedPrompt', 'num_tokens': 2, 'start_block': 2},
    'da-vpt': {'type': 'DAVPT', 'num_tokens': 3},
    'da-vpt-late': {'type': 'DAVPT', 'num_tokens': 2, 'start_block': 2},
    'pae': {'type': 'PAE', 'num_tokens': 3, 'prompter': {'type': 'VPT', 'deep': True}, 'width': 4},
    'pae-bilinear-late': {
        'type': 'PAE',
        'num_tokens': 2,
        'prompter': {'type': 'BilinearPrompt', 'rank': 2, 'deep': True},
        'width': 3,
        'start_block': 2,
    },
    'dapt': {'type': 'PrototypePrompt', 'num_tokens': 3, 'prompter': {'type': 'VPT'}},
    'dapt-apt-late': {
        'type': 'PrototypePrompt',
        'num_tokens': 2,
        'prompter': {'type': 'APT'},
        'start_block': 2,
    },
    'nsp2': {'type': 'NSP2', 'num_tokens': 3},
    'nsp2-late': {'type': 'NSP2', 'num_tokens': 2, 'start_block': 2},
}

#: Second rows of methods, which only the literal equations run among the quick tests.
SECOND = {
    'vipamin-deep-late', 'nsp2-late', 'vapt-late', 'apt-late', 'rein-low-rank-late',
    'e2vpt-pruned-late', 'cvpt-late', 'approximated-late', 'pro-vpt-ppo-late', 'condensed-late',
    'da-vpt-late', 'pae-bilinear-late', 'dapt-apt-late',
}

#: Methods of the table that discard what blocks make of their prompts; of these, methods whose
#: prompts depend on the image (or what dropout applies to); methods without prompts, which change
#: blocks from the inside; and methods with prompts that do so as well.
DISCARD = {
    'vpt-deep', 'vpt-deep-projected', 'bilinear-deep', 'twhiten-deep-late', 'spt', 'vfpt', 'vapt',
    'vapt-late', 'e2vpt', 'e2vpt-pruned-late', 'pro-vpt', 'pro-vpt-ppo-late', 'condensed',
    'condensed-late', 'da-vpt', 'da-vpt-late', 'pae', 'pae-bilinear-late', 'vipamin-deep-late',
    'nsp2', 'nsp2-late',
}
OF_THE_IMAGE = {'vapt', 'vapt-late', 'approximated', 'approximated-late'}
NO_TOKENS = {
    'apt', 'apt-late', 'rein', 'rein-low-rank-late', 'cvpt', 'cvpt-late', 'approximated',
    'approximated-late', 'dapt-apt-late',
}
INSIDE = {'gated', 'gated-late', 'e2vpt', 'e2vpt-pruned-late'}
#: Parameters that only a method's own loss reads.
IN_LOSSES = {'prompter.transition', 'prompter.stability'}


def has_output(name, out_type):
    """Whether a method's model can return this."""
    first = name.split('-')[0]  # of switches that are not in the table as well
    without = name in NO_TOKENS or first in ('cvpt', 'approximated') or 'rein' in name
    return not (out_type == 'avg_prompts' and without)


# ---- literal equations ------------------------------------------------------------------------


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
    if step == 0:
        return sets[0].expand(batch, -1, -1), patches.new_zeros(batch, count, width)
    inserted = sets[step]
    hidden = seen
    if cfg.get('gspc', True):
        mean = sum(patches[:, n] for n in range(patches.size(1))) / patches.size(1)
        if cfg.get('standardize'):
            mean = (mean - p['prompter.mean'][step - 1]) / p['prompter.deviation'][step - 1]
        hidden = torch.stack([seen[:, t] + mean for t in range(count)], 1)
    if cfg.get('hidden_norm', False):
        hidden = layer_norm(hidden, 1.0, 0.0, eps=1e-5)
    scale = p['prompter.scales'][step - 1] if cfg.get('own_prompts') else None
    if not cfg.get('lpc', True):
        return inserted + (hidden if scale is None else scale * hidden), memory

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
    prompts = torch.stack(prompts, 1)
    return prompts if scale is None else inserted + scale * prompts, torch.stack(cells, 1)


def literal_vpt(p, cfg, step, seen, patches, memory):
    """VPT: prompts for the first block, or for each block."""
    deep, sets = cfg.get('deep', False), p['prompter.prompts']
    if 'project' in cfg:
        weight, bias = p['prompter.projection.weight'], p['prompter.projection.bias']
        sets = torch.stack([torch.stack([weight @ t + bias for t in one]) for one in sets])
    if cfg['type'] == 'FourierPrompt':
        sets = torch.stack([literal_fourier(one, cfg.get('share', 0.5)) for one in sets])
    if step == 0 or deep:
        return sets[step].expand(patches.size(0), -1, -1), None
    return seen, None


def literal_fourier(prompts, share):
    """Re of the double sum over tokens and channels, for the first share of P prompts."""
    m = int(share * prompts.size(0))

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


def literal_vapt(p, cfg, step, seen, patches, memory):
    """VAPT, a channel and a window at a time."""
    batch, _, width = patches.shape
    if step == 0:
        return p['prompter.prompts'][0].expand(batch, -1, -1), None
    h, w = cfg['hw']
    name = f'prompter.norms.{step - 1}.'
    x = layer_norm(patches, p[name + 'weight'], p[name + 'bias'], eps=1e-5)
    x = x.reshape(batch, h, w, width)
    kernel = p['prompter.kernels'][step - 1]
    k = len(kernel)
    rows, columns = h - k + 1, w - k + 1
    alpha = p['prompter.weights'][step - 1]
    if tuple(alpha.shape[1:]) != (rows, columns):
        built = alpha.shape[1] * alpha.shape[2]
        alpha = torch.nn.functional.interpolate(
            alpha[None], (rows, columns), mode='bilinear', align_corners=False
        )[0] * (built / (rows * columns))
    prompts = []
    for j in range(cfg['num_tokens']):
        total = p['prompter.biases'][step - 1, j] * patches.new_ones(batch, width)
        for r in range(rows):
            for c in range(columns):
                window = sum(
                    kernel[a, b] * x[:, r + a, c + b] for a in range(k) for b in range(k)
                )
                total = total + alpha[j, r, c] * window
        prompts.append(total)
    prompts = torch.stack(prompts, 1)
    hidden = (prompts @ p['prompter.down.weight'].T).clamp(min=0)
    return prompts + hidden @ p['prompter.up.weight'].T, None


def literal_pool(p, cfg, step, seen, patches, memory):
    """Those prompts of the pool whose block this is."""
    number = cfg.get('start_block', 1) + step
    pairs = zip(p['prompter.prompts'], p['prompter.block'], strict=True)
    mine = [prompt for prompt, block in pairs if int(block) == number]
    return (torch.stack(mine).expand(patches.size(0), -1, -1) if mine else None), None


def literal_nsp2(p, cfg, step, seen, patches, memory):
    """NSP2: the block's own prompts."""
    return p['prompter.prompts'][step].expand(patches.size(0), -1, -1), None


def no_prompts(p, cfg, step, seen, patches, memory):
    return None, None


def literal_apt(p, cfg, step):
    """APT's keys and values, the same for all heads."""
    scales = p['prompter.scales'][step]
    scales = scales + (torch.where(scales > 1, scales, 1.0) - scales).detach()  # its gradient
    pair = p['prompter.prompts'][step] * scales[..., None]
    return [part.expand(cfg['heads'], -1, -1) for part in pair]


def literal_rein(p, cfg, step):
    """Rein's refinement of the patches."""
    if 'rank' in cfg:
        tokens = p['prompter.left'][step] @ p['prompter.right'][step]
    else:
        tokens = p['prompter.tokens'][step]

    def linear(x, name):
        return x @ p[f'prompter.{name}.weight'].T + p[f'prompter.{name}.bias']

    def refine(x):
        patches = x[:, cfg['extra'] :]
        logits = patches @ tokens.T / math.sqrt(x.size(-1))
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
        found = sum(
            weights[:, :, k : k + 1] * linear(tokens[k], 'token_to_feature')
            for k in range(1, len(tokens))
        )
        delta = linear(found + patches, 'delta')
        return torch.cat((x[:, : cfg['extra']], patches + p['prompter.scale'] * delta), 1)

    return {'block_output': refine}


def literal_e2vpt(p, cfg, step, seen, patches, memory):
    """E2VPT's prompts, masked a channel at a time."""
    prompts = p['prompter.prompts'][step]
    if cfg.get('prune') is not None:
        t, s = p['prompter.token_mask'], p['prompter.segment_mask']
        width = prompts.size(1) // s.size(1)
        masks = [[float(t[j] and s[j, c // width]) for c in range(prompts.size(1))]
                 for j in range(len(t))]
        prompts = prompts * torch.tensor(masks, dtype=prompts.dtype)
    return prompts.expand(patches.size(0), -1, -1), None


def literal_e2vpt_pairs(p, cfg, step):
    """E2VPT's tensor of a block, as keys and as values."""
    return [p['prompter.key_value_prompts'][step]] * 2


def literal_cvpt(p, cfg, step):
    """CVPT's attention to the prompts, a token, a head and a prompt at a time."""
    prompts, name = p['prompter.prompts'][step], cfg['block'] + 'attn.'
    packed, bias = p[name + 'qkv.weight'], p.get(name + 'qkv.bias')
    width, biases = packed.size(1), cfg.get('biases', True)

    def linear(x, part):
        rows = slice(part * width, (part + 1) * width)
        biased = bias is not None and (biases or part < 2)
        return x @ packed[rows].T + (bias[rows] if biased else 0.0)

    def attend(x):
        q, d = linear(x, 0), width // cfg['heads']
        out = []
        for h in range(cfg['heads']):
            s = slice(h * d, (h + 1) * d)
            terms = [
                (((q[..., s] * linear(one, 1)[s]).sum(-1) / math.sqrt(d)).exp(), linear(one, 2)[s])
                for one in prompts
            ]
            total = sum(weight for weight, _ in terms)
            out.append(sum((weight / total)[..., None] * value for weight, value in terms))
        out = torch.cat(out, -1) @ p[name + 'proj.weight'].T
        out = out + p[name + 'proj.bias'] if biases else out
        return x + p.get(name + 'gamma1.weight', 1.0) * out

    return {'before_mlp': attend}


def literal_approximated(p, cfg, step):
    """Approximated PT's effect of the prompts, a prompt at a time."""
    m, s = p['prompter.prompts'][step], p['prompter.log_scales'][step]
    product = p['prompter.down'][step] @ p['prompter.up'][step]

    def change(y, u):
        found = [(u @ (one + one @ product)).clamp(min=0) for one in m]
        w = torch.stack(found).max(0).values.detach()
        e = sum(a[..., None] * one for a, one in zip(found, m, strict=True))
        return (y + w[..., None] * e) * torch.exp(s)

    return {'attention_output': change}
def literal_davpt(p, cfg, step, seen, patches, memory):
    """DA-VPT: a row of a table for each block."""
    others = p.get('prompter.prompts')
    count = 0 if others is None else len(others)
    rows = others[step] if step < count else p['prompter.guided'][step - count]
    rows = torch.stack([row / (row * row).sum().sqrt() for row in rows])
    return rows.expand(patches.size(0), -1, -1), None


def wrapped(cfg):
    """The config of the method in a wrapper."""
    own = {k: cfg[k] for k in ('num_tokens', 'dropout', 'start_block') if k in cfg}
    facts = {k: cfg[k] for k in ('hw', 'extra', 'heads', 'block') if k in cfg}
    return {**cfg['prompter'], **own, **facts}


def unwrapped(part):
    """The part of an oracle of a wrapper: that of the method in it."""

    def call(p, cfg, *args):
        p = {n.replace('prompter.prompter.', 'prompter.'): v for n, v in p.items()}
        return getattr(ORACLES[cfg['prompter']['type']], part)(p, wrapped(cfg), *args)

    return call


# ---- trainable parameters ---------------------------------------------------------------------


def count_lspt(cfg, d, blocks):
    """With d = D and ``blocks`` = L': names and numbers as in the class's docstring."""
    tokens, steps = cfg['num_tokens'], blocks - 1
    counts = {'prompts': blocks * tokens * d}
    if cfg.get('own_prompts') and steps:
        counts['scales'] = steps
    if not cfg.get('lpc', True) or not steps:
        return counts
    kind, r = cfg.get('cell', 'full'), cfg.get('rank', 16)
    for half in ('ih', 'hh'):
        counts[f'lstm.bias_{half}'] = 4 * d
        if kind == 'low-rank':
            counts[f'lstm.weight_{half}_u'] = 4 * d * r
            counts[f'lstm.weight_{half}_v'] = r * d
        else:
            counts[f'lstm.weight_{half}'] = 4 * d * d if kind == 'full' else 4 * d
    return counts


def count_vpt(cfg, d, blocks):
    sets = blocks if cfg.get('deep') else 1
    width = cfg.get('project', d)
    counts = {'prompts': sets * cfg['num_tokens'] * width}
    if 'project' in cfg:
        counts.update({'projection.weight': width * d, 'projection.bias': d})
    return counts


def count_gated(cfg, d, blocks):
    counts = {'prompts': cfg['num_tokens'] * d}
    if blocks > 1:
        counts['gate_logits'] = blocks - 1
    if cfg.get('shaping', True):
        counts['temperatures'] = blocks
    return counts


def count_bilinear(cfg, d, blocks):
    mode, sets = cfg.get('mode', 'bilinear'), blocks if cfg.get('deep') else 1
    columns = cfg['rank'] if mode == 'bilinear' else d
    counts = {'left': sets * cfg['num_tokens'] * columns}
    if mode != 'fwhiten':
        counts['right_tuned'] = min(cfg.get('trained_right', 4), sets) * d * columns
    return counts


def count_vapt(cfg, d, blocks):
    k, r, count = cfg.get('kernel_size', 2), cfg.get('rank', 8), cfg['num_tokens']
    side = (14 if d == 768 else 2) - k + 1
    counts = {'prompts': count * d}
    if blocks > 1:
        counts.update({
            'kernels': (blocks - 1) * k * k, 'weights': (blocks - 1) * count * side * side,
            'biases': (blocks - 1) * count, 'down.weight': r * d, 'up.weight': r * d,
        })
    for step in range(blocks - 1):
        counts.update({f'norms.{step}.weight': d, f'norms.{step}.bias': d})
    return counts


def count_deep(cfg, d, blocks):
    return {'prompts': blocks * cfg['num_tokens'] * d}


def count_apt(cfg, d, blocks):
    heads = 12 if d == 768 else ARCH['num_heads']
    return {
        'prompts': 2 * blocks * cfg['num_tokens'] * d // heads,
        'scales': 2 * blocks * cfg['num_tokens'],
    }


def count_rein(cfg, d, blocks):
    counts = {'scale': 1}
    for name in ('token_to_feature', 'delta'):
        counts.update({f'{name}.weight': d * d, f'{name}.bias': d})
    if 'rank' not in cfg:
        return {**counts, 'tokens': blocks * cfg['num_tokens'] * d}
    r = cfg['rank']
    return {**counts, 'left': blocks * cfg['num_tokens'] * r, 'right': blocks * r * d}


def count_e2vpt(cfg, d, blocks):
    further = cfg.get('num_keys_values', 5)
    return {
        'prompts': blocks * cfg['num_tokens'] * d,
        'key_value_prompts': blocks * further * d,  # n d numbers of each head
    }


def count_cvpt(cfg, d, blocks):
    return {'prompts': blocks * cfg['num_tokens'] * d}


def count_approximated(cfg, d, blocks):
    r = cfg.get('rank', 4)
    return {
        'prompts': blocks * cfg['num_tokens'] * d, 'down': blocks * d * r, 'up': blocks * r * d,
        'log_scales': blocks,
    }
def count_davpt(cfg, d, blocks):
    last = L_OF_VIT_B if d == 768 else ARCH['num_layers']
    guided = last - cfg.get('first_guided', last) + 1
    counts = {'guided': guided * cfg.get('guided_tokens', cfg['num_tokens']) * d}
    if blocks > guided:
        counts['prompts'] = (blocks - guided) * cfg['num_tokens'] * d
    return counts


def count_wrapped(cfg, d, blocks):
    found = ORACLES[cfg['prompter']['type']].count(wrapped(cfg), d, blocks)
    return {f'prompter.{name}': number for name, number in found.items()}


def count_pae(cfg, d, blocks):
    matrices = ('transition', 'stability') if blocks > 1 else ()
    own = {name: cfg.get('width', 256) ** 2 for name in matrices}
    return {**own, **count_wrapped(cfg, d, blocks)}


# ---- the table --------------------------------------------------------------------------------


class Oracle(NamedTuple):
    """What a method is compared with.

    ``next_prompts(params, cfg, step, prompts_out, patches, memory) -> prompts, memory``: step 0
    is what enters first. ``count(cfg, D, L')``: trainable parameters by name.
    ``temperature(params, cfg, step)``: tau of the step-th block with prompts.
    ``further(params, cfg, step)``: its further keys and values, (H, n, d) each, or None.
    ``inside(params, cfg, step)``: functions by place, as of :func:`vit_oracles.block`.
    ``cfg`` also has what depends on the ViT: ``hw`` (rows and columns of patches), ``extra``
    (tokens before the patches), ``heads`` and ``block`` (name of the step's block).
    """

    next_prompts: Callable
    count: Callable
    temperature: Callable = lambda p, cfg, step: 1.0
    further: Callable = lambda p, cfg, step: None
    inside: Callable = lambda p, cfg, step: None


ORACLES = {
    'LSPT': Oracle(literal_lspt, count_lspt),
    'VPT': Oracle(literal_vpt, count_vpt),
    'GatedPrompt': Oracle(literal_gated, count_gated, literal_temperature),
    'BilinearPrompt': Oracle(literal_bilinear, count_bilinear),
    'SelfPrompt': Oracle(literal_vpt, count_vpt),
    'VIPAMIN': Oracle(literal_vpt, count_vpt),
    'FourierPrompt': Oracle(literal_vpt, count_vpt),
    'VAPT': Oracle(literal_vapt, count_vapt),
    'APT': Oracle(no_prompts, count_apt, further=literal_apt),
    'Rein': Oracle(no_prompts, count_rein, inside=literal_rein),
    'E2VPT': Oracle(literal_e2vpt, count_e2vpt, further=literal_e2vpt_pairs),
    'CVPT': Oracle(no_prompts, count_cvpt, inside=literal_cvpt),
    'ApproximatedPrompt': Oracle(no_prompts, count_approximated, inside=literal_approximated),
    'PROVPT': Oracle(literal_pool, count_deep),
    'CondensedPrompt': Oracle(literal_pool, count_deep),
    'DAVPT': Oracle(literal_davpt, count_davpt),
    'NSP2': Oracle(literal_nsp2, count_deep),
}
for _name, _count in {'PAE': count_pae, 'PrototypePrompt': count_wrapped}.items():
    ORACLES[_name] = Oracle(
        unwrapped('next_prompts'), _count, unwrapped('temperature'), unwrapped('further'),
        unwrapped('inside'),
    )


# ---- the ViT with prompts ---------------------------------------------------------------------


def literal_forward(model, img, cfg, out_type, out_indices, final_norm=True):
    """What ``PromptedViT`` with prompter ``cfg`` has to return, on the parameters of ``model``."""
    p = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    depth, heads = model.num_layers, model.layers[0].attn.num_heads
    extra = int('cls_token' in p)
    grid = tuple(model.patch_embed.init_out_size)
    x, (h, w) = embed(p, img, PATCH, grid, extra)
    start = cfg.get('start_block', 1)
    oracle = ORACLES[cfg['type']]
    next_prompts = oracle.next_prompts
    cfg = dict(cfg, hw=(h, w), extra=extra, heads=heads)
    outs, prompts, memory = [], None, None
    for l in range(1, depth + 1):
        cfg['block'] = f'layers.{l - 1}.'
        if l == start:
            prompts, memory = next_prompts(p, cfg, 0, None, x[:, extra:], None)
        changes = ()
        if l >= start:
            parts = (oracle.temperature, oracle.further, oracle.inside)
            changes = [part(p, cfg, l - start) for part in parts]
        if prompts is None:
            x = block(p, f'layers.{l - 1}.', x, heads, *changes)
        else:
            count = prompts.size(1)
            tokens = torch.cat((x[:, :extra], prompts, x[:, extra:]), 1)
            tokens = block(p, f'layers.{l - 1}.', tokens, heads, *changes)
            prompts = tokens[:, extra : extra + count]
            x = torch.cat((tokens[:, :extra], tokens[:, extra + count :]), 1)

        if l - 1 in out_indices:
            normed = final_norm and l == depth
            outs.append(literal_output(p, x, prompts, extra, (h, w), out_type, normed))
        if start <= l < depth:
            prompts, memory = next_prompts(p, cfg, l - start + 1, prompts, x[:, extra:], memory)
    return outs
