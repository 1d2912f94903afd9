"""NSP2: Gram matrices, projections, projected updates and the loss against a literal rewriting."""

import math

import pytest
import torch
from vit_oracles import ARCH, build, images, layer_norm

from lspt_mm.models.observed import Observed
from lspt_mm.models.prompters.null_space import null_space

D, DEPTH, HEADS = ARCH['embed_dims'], ARCH['num_layers'], ARCH['num_heads']
WIDTH, P = D // HEADS, 4


def model_of(seed=0, **cfg):
    """With the buffers of a new run, as ``build`` randomises them too."""
    cfg = {'type': 'NSP2', 'num_tokens': P, **cfg}
    model = build(cfg, seed=seed).eval()
    fresh = type(model.prompter)(**{k: v for k, v in cfg.items() if k != 'type'},
                                 embed_dims=D, num_layers=DEPTH, num_heads=HEADS)
    for name, buffer in model.prompter.named_buffers():
        buffer.copy_(dict(fresh.named_buffers())[name])
    return model


def literal_grams(model, img, start=1):
    """G1 and G2 of each block: an outer product for every image, head and token."""
    steps = []
    model.unroll(img, steps.append)
    keys, tokens = [], []
    for step in steps[start - 1 :]:
        layer = model.layers[step.number - 1]
        (wq, wk, _), (bq, bk, _) = layer.attn.qkv.weight.split(D), layer.attn.qkv.bias.split(D)
        norm = lambda x: layer_norm(x, layer.ln1.weight, layer.ln1.bias)  # noqa: B023, E731
        prompts = model.prompter.prompts[step.number - start]
        g1, g2, count = torch.zeros(D, D).double(), torch.zeros(P, P).double(), 0
        for x in step.x_in:
            every = torch.cat((norm(prompts), norm(x)))
            for h in range(HEADS):
                s = slice(h * WIDTH, (h + 1) * WIDTH)
                for one in norm(x):
                    q = wq[s] @ one + bq[s]
                    back = q @ wk[s]
                    logits = torch.stack([q @ (wk[s] @ e + bk[s]) for e in every])
                    weights = (logits / math.sqrt(WIDTH)).exp()
                    a = weights[:P] / weights.sum()
                    g1 += torch.outer(back, back)
                    g2 += torch.outer(a, a)
                    count += 1
        keys.append(g1 / count)
        tokens.append(g2 / count)
    return torch.stack(keys).detach(), torch.stack(tokens).detach()


def literal_small(values):
    """The first of the small ones, of sorted values: the largest second difference."""
    values = list(values)
    if len(values) >= 128:  # a Gaussian of sigma 10, cut at four of them; reflected at the ends
        n, reach = len(values), 40
        weights = [math.exp(-0.5 * (k / 10) ** 2) for k in range(-reach, reach + 1)]
        mirrored = values[::-1] + values + values[::-1]
        values = [
            sum(weights[reach + k] * mirrored[n + i + k] for k in range(-reach, reach + 1))
            / sum(weights) for i in range(n)
        ]
    bends = [values[i - 1] - 2 * values[i] + values[i + 1] for i in range(1, len(values) - 1)]
    return 1 + bends.index(max(bends))


def literal_projector(gram, eta, normalize):
    u, s, _ = torch.linalg.svd(gram)
    free = u[:, literal_small(s.tolist()) :]
    matrix = sum(torch.outer(one, one) for one in free.T)
    if normalize:
        matrix = matrix / math.sqrt(free.size(1))  # the norm of a projection of this rank
    return eta * matrix + (1 - eta) * torch.eye(len(gram)).double()


def batches(*images):
    return [(img, None) for img in images]


@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('start', [1, 2])
def test_matrices_of_two_tasks_are_sums_of_means_over_each(start, normalize):
    model = model_of(start_block=start, eta=0.9, normalize=normalize)
    first, second = images(3), images(2, seed=1)
    one = literal_grams(model, first, start)
    report = model.prompter.consolidate(model, batches(first[:1], first[1:]))
    assert 'task 1 consolidated from 3 images' in report
    with torch.no_grad():
        model.prompter.prompts.add_(0.1)
    two = literal_grams(model, second, start)
    model.prompter.consolidate(model, batches(second))
    prompter = model.prompter
    assert int(prompter.num_tasks) == 2
    assert torch.equal(prompter.last_prompts, prompter.prompts)
    for gram, projector, a, b in (
        (prompter.gram_keys, prompter.project_width, one[0], two[0]),
        (prompter.gram_attention, prompter.project_tokens, one[1], two[1]),
    ):
        torch.testing.assert_close(gram, a + b, rtol=1e-9, atol=1e-9)
        want = torch.stack([literal_projector(g, 0.9, normalize) for g in a + b])
        torch.testing.assert_close(projector, want, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize('size', [3, 4, 127, 128, 300])
def test_null_space_of_a_known_spectrum(size):
    generator = torch.Generator().manual_seed(size)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator).double())
    values = torch.linspace(2, 1, size).double() ** 4
    values[size // 3 :] *= 1e-3
    gram = (basis * values) @ basis.T
    matrix, rank = null_space(gram, normalize=False)
    assert size - rank == literal_small(values.tolist())
    free = basis[:, size - rank :]
    torch.testing.assert_close(matrix, free @ free.T, rtol=0, atol=1e-9)
    scaled, _ = null_space(gram, normalize=True)
    torch.testing.assert_close(scaled, matrix / math.sqrt(rank), rtol=0, atol=1e-9)


@pytest.mark.parametrize('size', [1, 2])
def test_of_fewer_than_three_values_the_smallest_counts_as_small(size):
    matrix, rank = null_space(torch.diag(torch.arange(size, 0, -1.0)), normalize=False)
    assert rank == 1
    want = torch.zeros(size, size).double()
    want[-1, -1] = 1
    torch.testing.assert_close(matrix, want)


def train_step(model, optimizer, img):
    model.prompter.before_step()
    optimizer.zero_grad()
    loss = model(img)[0].square().mean()
    extra = model.prompter.losses(model, Observed(), None)
    (loss + sum(extra.values())).backward()
    optimizer.step()
    model.prompter.after_step()


@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.AdamW])
def test_update_is_projected_from_the_second_task_on(kind):
    model, twin = model_of(eta=0.8), model_of(eta=0.8)
    prompter = model.prompter
    optimizer, other = (
        kind([one.prompter.prompts], lr=0.1, weight_decay=0.1) for one in (model, twin)
    )
    train_step(model, optimizer, images())
    twin(images())[0].square().mean().backward()
    other.step()
    assert torch.equal(prompter.prompts, twin.prompter.prompts)  # not before the first task ends
    prompter.consolidate(model, batches(images(3, seed=1)))
    before = prompter.prompts.detach().clone()

    twin.load_state_dict(model.state_dict())
    other.zero_grad()
    extra = twin.prompter.losses(twin, Observed(), None)['consistency']
    (twin(images())[0].square().mean() + extra).backward()
    other.step()
    change = twin.prompter.prompts.detach() - before
    train_step(model, optimizer, images())
    want = torch.stack([
        before[l] + prompter.project_tokens[l] @ change[l] @ prompter.project_width[l]
        for l in range(DEPTH)
    ])
    torch.testing.assert_close(prompter.prompts, want, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(want, before + change)


def test_eta_one_leaves_what_earlier_queries_see_of_the_prompts():
    """In the free directions alone: U_1 of G_1 is orthogonal to every other direction."""
    model = model_of(eta=1.0)
    prompter = model.prompter
    prompter.consolidate(model, batches(images(2)))
    before = prompter.prompts.detach().clone()
    prompter.before_step()
    with torch.no_grad():
        prompter.prompts.add_(torch.randn(before.shape, generator=torch.manual_seed(0)).double())
    prompter.after_step()
    change = prompter.prompts.detach() - before
    assert change.norm() > 0.1
    for l in range(DEPTH):
        values, vectors = torch.linalg.eigh(prompter.gram_keys[l])
        strong = vectors[:, -1]
        assert (change[l] @ strong).abs().max() < 1e-9


def literal_consistency(now, last, weight):
    total = 0
    for a, b in zip(now.flatten(0, 1), last.flatten(0, 1), strict=True):
        means = [sum(x) / D for x in (a, b)]
        spread = [
            (sum((v - m) ** 2 for v in x) / (D - 1)).sqrt()
            for x, m in zip((a, b), means, strict=True)
        ]
        total = total + abs(means[0] - means[1]) + abs(spread[0] - spread[1])
    return weight * total


def test_consistency_loss_and_its_gradient():
    model = model_of(consistency=0.5)
    assert model.prompter.losses(model, Observed(), None) == {}
    model.prompter.consolidate(model, batches(images()))
    with torch.no_grad():
        model.prompter.prompts.mul_(1.3).add_(0.2)
    found = model.prompter.losses(model, Observed(), None)['consistency']
    want = literal_consistency(model.prompter.prompts, model.prompter.last_prompts, 0.5)
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-9)
    (a,) = torch.autograd.grad(found, model.prompter.prompts)
    (b,) = torch.autograd.grad(want, model.prompter.prompts)
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    model.prompter.consistency = 0
    assert model.prompter.losses(model, Observed(), None) == {}


def test_prompts_start_uniform_between_minus_one_and_one():
    from lspt_mm.models import NSP2

    prompts = NSP2(4).prompts
    assert prompts.shape == (12, 4, 768)
    assert 0.99 < prompts.max() <= 1 and -1 <= prompts.min() < -0.99
    assert abs(float(prompts.detach().std()) - 1 / math.sqrt(3)) < 0.01


def test_a_state_dict_holds_the_tasks():
    model, other = model_of(), model_of(seed=1)
    model.prompter.consolidate(model, batches(images()))
    other.load_state_dict(model.state_dict())
    for one in (model, other):
        one.prompter.before_step()
        with torch.no_grad():
            one.prompter.prompts.add_(torch.linspace(0, 1, D).double())
        one.prompter.after_step()
    assert torch.equal(model.prompter.prompts, other.prompter.prompts)


def test_no_images_say_so():
    model = model_of()
    with pytest.raises(ValueError, match='no image to consolidate from'):
        model.prompter.consolidate(model, [])
