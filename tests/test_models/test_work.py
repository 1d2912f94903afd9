"""How much is computed and kept, counted: the oracle is arithmetic on the equations.

With D width, T tokens that ask, S tokens that are read: a block's products are 2 (T D^2 queries +
2 S D^2 keys and values + T D^2 projection + 8 T D^2 MLP) + 4 T S D attention FLOPs.
"""

import pytest
import torch
from torch import nn
from vit_oracles import ARCH, PATCH, build, weighted_sum

from lspt_mm.analysis.flops import count_flops

B, P = 2, 5
IMG = 48
N = (IMG // PATCH) ** 2
D, L, HIDDEN = ARCH['embed_dims'], ARCH['num_layers'], ARCH['feedforward_channels']
X = 1 + N  # class token and patches

EMBEDDING = 2 * B * N * D * 3 * PATCH**2
HEADS = {'cls_token': 1, 'featmap': N, 'raw': X}


def block(asking, read, prompts=0):
    """FLOPs of a block; ``prompts`` are read as well, and projected once for the batch."""
    linear = asking * D * D + 2 * read * D * D + asking * D * D + 2 * asking * D * HIDDEN
    return B * (2 * linear + 4 * asking * (read + prompts) * D) + 2 * 2 * prompts * D * D


def images(size=IMG):
    return torch.randn(B, 3, size, size, generator=torch.Generator().manual_seed(0))


def model(prompter=None, **kwargs):
    kwargs = dict({'img_size': IMG, 'dtype': torch.float32, 'out_type': 'cls_token'}, **kwargs)
    return build(prompter, **kwargs)


def saved_bytes(run, modules):
    """Bytes that autograd keeps for the backward pass of ``run()``, a forward pass.

    Each storage counts once; what ``modules`` hold anyway (parameters, buffers) does not.
    """
    own = {t.untyped_storage().data_ptr() for t in (*modules.parameters(), *modules.buffers())}
    kept = []  # the tensors themselves, so that no address is used a second time

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(size for pointer, size in storages.items() if pointer not in own)


def forward_flops(net):
    with torch.no_grad():
        return sum(count_flops(lambda: net(images())).values())


def linear_flops(counts):
    return sum(v for k, v in counts.items() if k in ('mm', 'addmm'))


# ---- forward ----------------------------------------------------------------------------------


@pytest.mark.parametrize('out_type', HEADS)
def test_plain(out_type):
    want = EMBEDDING + (L - 1) * block(X, X) + block(HEADS[out_type], X)
    assert forward_flops(model(out_type=out_type)) == want


def test_blocks_behind_the_last_one_taken_do_not_run():
    want = EMBEDDING + block(X, X) + block(N, X)
    assert forward_flops(model(tune='nothing', out_type='featmap', out_indices=[0, 1])) == want


@pytest.mark.parametrize('out_type', HEADS)
@pytest.mark.parametrize('start', range(1, L + 1))
def test_deep_prompts_are_keys_and_values_once_for_the_batch(start, out_type):
    net = model({'type': 'VPT', 'num_tokens': P, 'deep': True, 'start_block': start}).train()
    blocks = [block(X, X, P if l >= start else 0) for l in range(1, L)] + [block(1, X, P)]
    assert forward_flops(net) == EMBEDDING + sum(blocks)


@pytest.mark.parametrize('out_type', HEADS)
def test_fused_deep_prompts_cost_attention_alone(out_type):
    net = model({'type': 'VPT', 'num_tokens': P, 'deep': True}, out_type=out_type).eval()
    net.fuse()
    asking = [X] * (L - 1) + [HEADS[out_type]]
    more = sum(4 * B * a * P * D for a in asking)
    assert forward_flops(net) == forward_flops(model(out_type=out_type).eval()) + more


@pytest.mark.parametrize('out_type', ['featmap', 'raw'])
def test_rein_refines_the_patches_that_are_read(out_type):
    net = model({'type': 'Rein', 'num_tokens': P}, out_type=out_type).train()
    # Logits of P tokens, values of P - 1 and one layer for each patch; W_t for each token.
    refined = 2 * B * N * (P * D + (P - 1) * D + D * D) + 2 * P * D * D
    assert forward_flops(net) == forward_flops(model(out_type=out_type)) + L * refined
    cls = model({'type': 'Rein', 'num_tokens': P}).train()  # no patch is read of the last block
    assert forward_flops(cls) == forward_flops(model()) + (L - 1) * refined + 2 * P * D * D


def test_vapt_projects_the_prompts_of_each_image():
    k, r, side = 2, 3, IMG // PATCH - 1
    net = model({'type': 'VAPT', 'num_tokens': P, 'kernel_size': k, 'rank': r}).train()
    made = 2 * B * (D * side**2 * k**2 + D * side**2 * P + 2 * P * D * r)
    projected = 2 * 2 * P * D * D  # keys and values, once for the first block's prompts
    blocks = [block(X, X, P)] + [block(X, X, P) + (B - 1) * projected] * (L - 2)
    blocks += [block(1, X, P) + (B - 1) * projected]
    assert forward_flops(net) == EMBEDDING + sum(blocks) + (L - 1) * made


@pytest.mark.parametrize('out_type', HEADS)
def test_further_keys_and_values_cost_attention_alone(out_type):
    """E2VPT beside VPT-deep, APT beside the plain ViT: n of them, which no projection makes."""
    n, asking = 3, [X] * (L - 1) + [HEADS[out_type]]
    net = model({'type': 'E2VPT', 'num_tokens': P, 'num_keys_values': n}, out_type=out_type)
    deep = model({'type': 'VPT', 'num_tokens': P, 'deep': True}, out_type=out_type)
    more = sum(4 * B * a * n * D for a in asking)
    assert forward_flops(net.train()) == forward_flops(deep.train()) + more
    apt = model({'type': 'APT', 'num_tokens': n}, out_type=out_type).train()
    assert forward_flops(apt) == forward_flops(model(out_type=out_type)) + more


@pytest.mark.parametrize('out_type', HEADS)
def test_cross_attention_to_prompts(out_type):
    """CVPT: queries and output of the tokens that are read, keys and values once for the batch."""
    asking = [X] * (L - 1) + [HEADS[out_type]]
    more = sum(B * (2 * 2 * a * D * D + 4 * a * P * D) + 2 * 2 * P * D * D for a in asking)
    net = model({'type': 'CVPT', 'num_tokens': P}, out_type=out_type).train()
    assert forward_flops(net) == forward_flops(model(out_type=out_type)) + more


@pytest.mark.parametrize('out_type', HEADS)
def test_approximated_prompts_cost_two_products(out_type):
    """With P prompts; M W1 W2 of rank r once for the batch."""
    r, asking = 2, [X] * (L - 1) + [HEADS[out_type]]
    more = sum(2 * B * 2 * a * P * D + 2 * 2 * P * D * r for a in asking)
    net = model({'type': 'ApproximatedPrompt', 'num_tokens': P, 'rank': r}, out_type=out_type)
    assert forward_flops(net.train()) == forward_flops(model(out_type=out_type)) + more


def carried(last, extra=0):
    """Prompts that ask in all blocks but the last, and ``last`` of them there."""
    if last:
        return EMBEDDING + (L - 1) * block(P + X, P + X) + block(last, P + X) + extra
    # An image's own prompts are projected for each image.
    final = block(1, X, P) + (B - 1) * 2 * 2 * P * D * D
    return EMBEDDING + (L - 1) * block(P + X, P + X) + final + extra


CELLS = {
    'full': (4 * D * D, 4 * D * D),
    'low-rank': (5 * D * 3, 5 * D * 3),
    'diagonal': (0, 0),  # element by element
}
METHODS = {
    'vpt': ({'type': 'VPT'}, 0),
    'gated': ({'type': 'GatedPrompt'}, 0),
    'lspt-no-lpc': ({'type': 'LSPT', 'lpc': False}, 0),
    **{
        # W P^l once for the batch, U h for each image, in L - 1 steps.
        f'lspt-{cell}': (
            {'type': 'LSPT', 'cell': cell, 'rank': 3},
            (L - 1) * P * 2 * (of_input + B * of_hidden),
        )
        for cell, (of_input, of_hidden) in CELLS.items()
    },
}


@pytest.mark.parametrize('name', METHODS)
def test_prompts_that_are_read_ask_in_all_blocks_but_the_last(name):
    prompter, cell = METHODS[name]
    net = model(dict(prompter, num_tokens=P)).train()
    assert forward_flops(net) == carried(0, cell)


@pytest.mark.parametrize(('out_type', 'last'), [('avg_tokens', P + N), ('avg_prompts', P)])
def test_pooled_prompts_ask_in_the_last_block(out_type, last):
    net = model({'type': 'GatedPrompt', 'num_tokens': P}, out_type=out_type).train()
    assert forward_flops(net) == carried(last)


# ---- backward ---------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['vpt', 'gated'])
def test_frozen_weights_get_no_gradient(name):
    # A trained linear layer has two products in its backward pass, a frozen one has one.
    net = model(dict(METHODS[name][0], num_tokens=P), out_type='raw').train()
    forward = linear_flops(count_flops(lambda: net(images())))
    both = linear_flops(count_flops(lambda: weighted_sum(net(images())).backward()))
    assert both == 2 * forward


def test_blocks_before_the_prompts_keep_nothing():
    kept = []
    for start in range(1, L + 1):
        prompter = {'type': 'GatedPrompt', 'num_tokens': P, 'start_block': start}
        net = model(prompter, out_type='raw').train()
        kept.append(saved_bytes(lambda net=net: net(images()), net))
    shallower = {'type': 'GatedPrompt', 'num_tokens': P}
    for blocks, held in zip(range(L, 0, -1), kept, strict=True):
        net = model(shallower, arch=dict(ARCH, num_layers=blocks), out_type='raw').train()
        assert held == pytest.approx(saved_bytes(lambda net=net: net(images()), net), rel=0.01)
    assert kept == sorted(kept, reverse=True)


def per_token(prompter, with_cp, size=IMG, steps=(4, 8)):
    """Numbers that one more block keeps for each of its tokens, in units of D."""
    kept = []
    img = images(size)
    for blocks in steps:
        arch = dict(ARCH, num_layers=blocks, feedforward_channels=4 * D)
        net = model(prompter, arch=arch, with_cp=with_cp, out_type='raw', img_size=size).train()
        kept.append(saved_bytes(lambda net=net: net(img), net))
    tokens = B * (1 + (size // PATCH) ** 2 + P)
    return (kept[1] - kept[0]) / (steps[1] - steps[0]) / 4 / tokens / D


def test_what_a_frozen_block_keeps():
    # Two norms' inputs, q, k, v, the softmax of few tokens, the MLP's hidden layer.
    tokens = X + P
    softmax = ARCH['num_heads'] * tokens / D
    statistics = 4 / D  # mean and deviation of two norms
    plain = per_token({'type': 'VPT', 'num_tokens': P}, False)
    assert plain == pytest.approx(2 + 3 + softmax + 4 + statistics, rel=0.02)
    # Selective: not the hidden layer, and nothing of the second norm, but the heads' outputs.
    selective = per_token({'type': 'VPT', 'num_tokens': P}, 'selective')
    assert selective == pytest.approx(1 + 3 + softmax + 1 + statistics / 2, rel=0.02)
    assert per_token({'type': 'VPT', 'num_tokens': P}, True) == pytest.approx(1, rel=0.02)


def test_temperatures_keep_no_second_copy_of_the_queries():
    # 144 patches: fused attention, which keeps the queries it is given.
    shaped = per_token({'type': 'GatedPrompt', 'num_tokens': P}, False, 96)
    unshaped = per_token({'type': 'GatedPrompt', 'num_tokens': P, 'shaping': False}, False, 96)
    assert shaped == pytest.approx(unshaped, abs=0.01)


# ---- the counters -----------------------------------------------------------------------------


def test_counters_on_what_can_be_counted_by_hand():
    linear = nn.Linear(3, 5)
    x = torch.randn(7, 3, requires_grad=True)
    assert count_flops(lambda: linear(x)) == {'addmm': 2 * 7 * 3 * 5}
    assert count_flops(lambda: linear(x).sum().backward()) == {
        'addmm': 2 * 7 * 3 * 5,
        'mm': 2 * 2 * 7 * 3 * 5,
    }
    q = torch.randn(2, 4, 200, 8, requires_grad=True)

    def fused():
        return nn.functional.scaled_dot_product_attention(q, q, q)

    assert sum(count_flops(fused).values()) == 2 * 4 * 2 * (2 * 200 * 200 * 8)
    # The backward pass forms the logits once more, and has four products of its own.
    both = sum(count_flops(lambda: fused().sum().backward()).values())
    assert both == 2 * 4 * 7 * (2 * 200 * 200 * 8)
    # exp keeps its result, sin its input, and a weight is there anyway.
    assert saved_bytes(lambda: x.exp(), linear) == 4 * 21
    assert saved_bytes(lambda: x.sin().exp(), linear) == 2 * 4 * 21
    assert saved_bytes(lambda: x.detach() @ linear.weight.T, linear) == 4 * 21
