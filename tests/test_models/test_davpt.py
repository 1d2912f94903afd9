"""DA-VPT: losses against a literal rewriting, the map from classes to prompts, biases of "+"."""

import copy
import math

import pytest
import torch
from vit_oracles import ARCH, build, images, layer_norm

from lspt_mm.models import DAVPT
from lspt_mm.models.observed import observe
from lspt_mm.models.prompters.base import Training
from lspt_mm.models.prompters.class_mapping import ClassMapping, cosine_kmeans

D, DEPTH, HEADS = ARCH['embed_dims'], ARCH['num_layers'], ARCH['num_heads']
CLASSES = 5
GUIDED = {'type': 'DAVPT', 'num_tokens': 2, 'guided_tokens': 3, 'first_guided': 2}


def labels_of(*classes):
    """One row per image, from the numbers of its classes."""
    rows = torch.zeros(len(classes), CLASSES, dtype=torch.bool)
    for row, own in zip(rows, classes, strict=True):
        row[list(own)] = True
    return rows


def with_mapping(mapping, **cfg):
    model = build({**GUIDED, **cfg}, out_type='cls_token').train()
    classes = model.prompter.classes
    classes.mapping = torch.tensor(mapping)
    classes.sums, classes.counts = torch.zeros(CLASSES, D).double(), torch.zeros(CLASSES).double()
    classes.prepared.fill_(True)
    return model


def losses_of(model, img, labels):
    with observe() as seen:
        model(img)
    return model.prompter.losses(model, seen, labels), seen


# ---- the losses -------------------------------------------------------------------------------


def literal_anchor(z, prompts, chosen, prompter):
    """M(z, p), a sum at a time; ``chosen`` has each image's prompt or None."""
    a, delta, sigma = prompter.sharpness, prompter.margin, prompter.scale

    def s(b, k):
        dot = (z[b] * prompts[k]).sum()
        return sigma * dot / (z[b].norm() * prompts[k].norm())

    used, near, far, one = set(chosen) - {None}, 0.0, 0.0, z.new_ones(())
    for k in range(len(prompts)):
        own = [b for b, c in enumerate(chosen) if c == k]
        others = [b for b, c in enumerate(chosen) if c not in (k, None)]
        near = near + torch.log(one + sum(torch.exp(-a * (s(b, k) - delta)) for b in own))
        far = far + torch.log(one + sum(torch.exp(a * (s(b, k) + delta)) for b in others))
    return near / len(used) + far / len(prompts)


def project(model, l, x, part):
    """Queries (0) or keys (1) of tokens (n, D) of block l, all heads side by side."""
    p, name = dict(model.named_parameters()), f'layers.{l - 1}.'
    x = layer_norm(x, p[name + 'ln1.weight'], p[name + 'ln1.bias'])
    rows = slice(part * D, (part + 1) * D)
    return x @ p[name + 'attn.qkv.weight'][rows].T + p[name + 'attn.qkv.bias'][rows]


def literal_losses(model, seen, chosen):
    prompter = model.prompter
    patches, classes, guided = 0.0, 0.0, range(prompter.first_guided, DEPTH + 1)
    for l in guided:
        prompts = prompter.guided[l - prompter.first_guided]
        prompts = torch.stack([row / row.norm() for row in prompts])
        tokens = seen.blocks[l]
        mean = sum(tokens[:, n] for n in range(1, tokens.size(1))) / (tokens.size(1) - 1)
        patches = patches + literal_anchor(mean, prompts, chosen, prompter)
        query = project(model, l, tokens[:, 0], 0)
        keys = project(model, l, prompts, 1)
        classes = classes + literal_anchor(query, keys, chosen, prompter)
    return {
        'patches': prompter.patch_weight * patches / len(guided),
        'class': prompter.class_weight * classes / len(guided),
    }


@pytest.mark.parametrize(
    'switches',
    [
        {},
        {'first_guided': 3, 'scale': 5.0, 'sharpness': 2.0},
        {'margin': -0.2, 'sharpness': 4.0},
        {'first_guided': 1, 'patch_weight': 0.5, 'class_weight': 2.0, 'scale': 0.3},
    ],
    ids=str,
)
def test_losses_equal_literal(switches):
    # Class 3 was never seen: the last image belongs to no prompt.
    model = with_mapping([2, 0, 2, -1, 0], **switches)
    model.requires_grad_(True)  # gradients of the frozen parts are compared as well
    labels = labels_of([0], [1], [2], [4], [3])
    found, seen = losses_of(model, images(5), labels)
    want = literal_losses(model, seen, [2, 0, 2, 0, None])
    assert found.keys() == want.keys()
    leaves = [p for n, p in model.named_parameters()]
    for name in found:
        torch.testing.assert_close(found[name], want[name], rtol=1e-9, atol=1e-9)
        pair = [torch.autograd.grad(one[name], leaves, allow_unused=True, retain_graph=True)
                for one in (found, want)]
        assert any(g is not None and g.any() for g in pair[0])
        for a, b in zip(*pair, strict=True):
            a, b = (torch.zeros(()) if g is None else g for g in (a, b))
            assert (a - b).abs().max() <= 1e-9 * max(1.0, b.abs().max())


def test_sharp_losses_do_not_overflow():
    model = with_mapping([0, 1, 2, 0, 1], scale=50.0).float()
    found, _ = losses_of(model, images(3).float(), labels_of([0], [1], [2]))
    for loss in found.values():
        assert loss.isfinite() and loss > 0
    sum(found.values()).backward()
    assert model.prompter.guided.grad.isfinite().all()


@pytest.mark.parametrize('zero', ['patch_weight', 'class_weight'])
def test_a_weight_of_zero_is_no_loss(zero):
    found, _ = losses_of(with_mapping([0] * CLASSES, **{zero: 0}), images(1), labels_of([0]))
    assert found.keys() == {'patches', 'class'} - {'patches' if 'patch' in zero else 'class'}


def test_without_both_weights_nothing_is_prepared_or_observed():
    model = build({**GUIDED, 'patch_weight': 0, 'class_weight': 0}).train()
    assert not model.prompter.needs_preparation and not model.prompter.observes(DEPTH)
    with pytest.raises(ValueError, match='does not start from data'):
        model.prompter.prepare(model, [])
    assert model.prompter.after_epoch(Training(1, 2, 0.0, print)) == ''


def test_a_batch_without_known_classes_has_zero_loss_and_gradient():
    model = with_mapping([-1] * CLASSES)
    found, _ = losses_of(model, images(), labels_of([0], []))
    sum(found.values()).backward()
    assert all(loss == 0 for loss in found.values()) and not model.prompter.guided.grad.any()


def test_images_without_classes_are_refused():
    model = with_mapping([0] * CLASSES)
    with pytest.raises(ValueError, match='DAVPT: the images have no classes'):
        losses_of(model, images(), None)
    with pytest.raises(ValueError, match='the images have no classes'):
        model.prompter.prepare(model, [(images(), None)])


def test_a_vit_without_class_token():
    with pytest.raises(ValueError, match='class_weight=0.01: expected 0 here, as it has no class'):
        build(GUIDED, with_cls_token=False, out_type='avg_patches')
    model = build({**GUIDED, 'class_weight': 0}, with_cls_token=False, out_type='avg_patches')
    model.prompter.classes.mapping = torch.tensor([0, 1])
    found, seen = losses_of(model, images(), torch.eye(2).bool())
    means = {l: seen.blocks[l].mean(1) for l in (2, 3)}
    of_block = model.prompter.of_block
    want = [literal_anchor(means[l], of_block(l), [0, 1], model.prompter) for l in means]
    assert found.keys() == {'patches'}
    torch.testing.assert_close(found['patches'], 0.01 * sum(want) / 2)


# ---- classes and prompts ----------------------------------------------------------------------


def test_the_prompt_of_an_image_is_that_of_most_of_its_classes():
    classes = ClassMapping(3, 2)
    classes.mapping = torch.tensor([2, 0, 2, -1, 0])
    rows = classes.belongs(labels_of([0, 1, 2], [1], [3, 0], [3], [], [0, 1]))
    found = [row.nonzero().flatten().tolist() for row in rows]
    assert found == [[2], [0], [2], [], [], [0]]  # in a tie, the first


def test_kmeans_by_cosine():
    directions = torch.eye(3).double()
    noise = 0.1 * torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).double()
    points = directions.repeat(10, 1) + noise
    points = points / points.norm(dim=1, keepdim=True)
    nearest, centroids = cosine_kmeans(points, points[[1, 0, 2]])
    assert nearest.tolist() == [1, 0, 2] * 10
    for k, own in enumerate((points[1::3], points[0::3], points[2::3])):
        torch.testing.assert_close(centroids[k], own.sum(0) / own.sum(0).norm())


def test_kmeans_leaves_a_centroid_without_points_where_it_is():
    points = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    start = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    nearest, centroids = cosine_kmeans(points, start)
    assert nearest.tolist() == [0, 0] and torch.equal(centroids[1], start[1])


def test_as_many_prompts_as_classes_are_one_each():
    classes = ClassMapping(4, 2)
    line = classes.fit(torch.randn(5, 2), torch.tensor([1.0, 0.0, 2.0, 1.0, 3.0]))
    assert classes.mapping.tolist() == [0, -1, 1, 2, 3]
    assert line == '4 classes are mapped to 4 of 4 prompts'
    before = classes.mapping.clone()
    classes.add(torch.randn(2, 2), labels_of([1], [0]))
    assert classes.update(True) == '' and torch.equal(classes.mapping, before)
    assert not classes.counts.any() and not classes.sums.any()


def prepared(batches, **cfg):
    model = build({**GUIDED, 'guided_tokens': 2, **cfg}, out_type='cls_token').eval()
    torch.manual_seed(0)
    return model, model.prompter.prepare(model, batches)


def test_preparation_clusters_the_class_means_of_the_frozen_vit():
    img, labels = images(6), labels_of([0], [1], [2], [4], [0], [1])
    model, line = prepared([(img[:4], labels[:4]), (img[4:], labels[4:])])
    assert line == '4 classes are mapped to 2 of 2 prompts'
    assert not model.prompter.needs_preparation
    mapping = model.prompter.classes.mapping
    assert mapping[3] == -1 and set(mapping.tolist()) == {-1, 0, 1}
    features = layer_norm(model(img, prompter=False)[0], 1.0, 0.0, eps=1e-5)
    means = [features[labels[:, k]].mean(0) for k in (0, 1, 2, 4)]
    for k, mean in zip((0, 1, 2, 4), means, strict=True):
        cosines = [mean @ c / mean.norm() / c.norm() for c in model.prompter.classes.centroids]
        assert mapping[k] == int(torch.stack(cosines).argmax())


def test_after_a_pass_the_means_are_those_of_its_steps():
    img, labels = images(4), labels_of([0], [1], [2], [4])
    model, _ = prepared([(img, labels)])
    model.train()
    prompter = model.prompter
    want = copy.deepcopy(prompter.classes)
    for rows in (slice(0, 2), slice(2, 4)):
        prompter.before_step()
        _, seen = losses_of(model, img[rows], labels[rows])
        want.add(layer_norm(seen.features[0].detach(), 1.0, 0.0, eps=1e-5), labels[rows])
        prompter.after_step()
    torch.testing.assert_close(prompter.classes.sums, want.sums, rtol=1e-5, atol=1e-6)
    assert prompter.classes.counts.tolist() == [1, 1, 1, 0, 1]
    line = prompter.after_epoch(Training(1, 2, 0.0, print))
    assert line == want.update(True) and line.startswith('4 classes')
    assert torch.equal(prompter.classes.mapping, want.mapping)
    assert not prompter.classes.sums.any() and not prompter.classes.counts.any()


def test_the_map_stays_before_its_first_pass():
    model, _ = prepared([(images(4), labels_of([0], [1], [2], [4]))], dynamic_kmeans=3)
    classes, calls = model.prompter.classes, []
    classes._assign = lambda *args: calls.append(1) or 'again'
    lines = [model.prompter.after_epoch(Training(e, 4, 0.0, print)) for e in (1, 2, 3, 4)]
    assert lines == ['', '', 'again', 'again']


def test_all_classes_on_one_prompt_change_nothing():
    classes = ClassMapping(2, 2)
    classes.fit(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), torch.ones(3))
    before = {k: v.clone() for k, v in classes.state_dict().items()}
    classes.add(torch.tensor([[1.0, 1.0], [1.0, 1.1], [1.0, 1.05]]), torch.eye(3).bool())
    line = classes.update(True)
    assert line == 'all classes are nearest to one prompt: the mapping is left as it is'
    assert all(torch.equal(v, before[k]) for k, v in classes.state_dict().items())


def test_losses_outside_a_step_change_no_state():
    model = with_mapping([0, 1, 2, 0, 1])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found, _ = losses_of(model, images(), labels_of([0], [1]))
    sum(found.values()).backward()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_number_of_classes_comes_with_the_state_dict():
    model = with_mapping([0, 1, 2, 0, 1])
    other = build(GUIDED, seed=1)
    other.load_state_dict(model.state_dict())
    assert other.prompter.classes.mapping.tolist() == [0, 1, 2, 0, 1]
    assert not other.prompter.needs_preparation
    assert other.prompter.classes.sums.dtype == torch.float64


# ---- prompts ----------------------------------------------------------------------------------


def test_starts():
    prompter = DAVPT(15, guided_tokens=20, first_guided=10)
    for values, blocks, count in ((prompter.prompts, 9, 15), (prompter.guided, 3, 20)):
        assert values.shape == (blocks, count, 768)
        bound = math.sqrt(6 / ((count + blocks) * 768))
        assert 0.99 * bound < values.abs().max() <= bound
    assert abs(math.sqrt(6 / (24 * 768)) - 0.018) < 1e-4  # the paper's, for MAE on CUB


def test_prompts_have_unit_length():
    prompter = build(GUIDED).prompter
    for l in range(1, DEPTH + 1):
        lengths = prompter.of_block(l).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
    assert [len(prompter.of_block(l)) for l in (1, 2, 3)] == [2, 3, 3]


def test_first_guided_before_the_prompts_start():
    with pytest.raises(ValueError, match='first_guided=2: expected an integer from 3 to 12'):
        DAVPT(2, first_guided=2, start_block=3)


def test_a_pass_that_misses_classes_leaves_the_map_of_the_others():
    classes = ClassMapping(3, D)
    means = torch.eye(D)[[0, 1, 2, 0]] + 0.01 * torch.eye(D)[[3, 4, 5, 6]]  # 3 is near 0
    classes.fit(means, torch.ones(4))
    before = classes.mapping.clone()
    assert before[0] == before[3] and len(before.unique()) == 3
    for seen in ([0, 2, 3], [1], []):  # no more classes than prompts
        labels = torch.zeros(len(seen), 4, dtype=torch.bool)
        labels[range(len(seen)), seen] = True
        classes.add(means[seen], labels)
        classes.update(again=True)
        assert torch.equal(classes.mapping, before)
