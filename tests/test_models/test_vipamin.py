"""VIPAMIN's start against a literal rewriting: neighbours by the keys, and what is orthogonal."""

import pytest
import torch
from torch.nn import functional as F
from vit_oracles import ARCH, attention, build, images, layer_norm

from lspt_mm.models import TimmPromptedViT
from lspt_mm.models.prompters.vipamin import attention_output, orthogonal_to

D, DEPTH, HEADS = ARCH['embed_dims'], ARCH['num_layers'], ARCH['num_heads']


def model_of(**cfg):
    cfg = {'type': 'VIPAMIN', 'num_tokens': 3, 'deep': True, 'neighbors': 2, **cfg}
    return build(cfg, img_size=(24, 16)).eval()


def pictures(count=5):
    return images(count, 24, 16)


def prepared(**cfg):
    model = model_of(**cfg)
    before = model.prompter.prompts.detach().clone()
    img = pictures()
    report = model.prompter.prepare(model, [(img[:2], None), (img[2:], None)])
    assert 'from 5 images' in report and not model.prompter.needs_preparation
    return model, before


def mean_tokens(model, block):
    """E: class token and patches that enter a block of the plain ViT, averaged over images."""
    plain = build(out_type='raw', out_indices=tuple(range(DEPTH)), img_size=(24, 16))
    plain.load_state_dict(model.state_dict(), strict=False)
    x = model.embed(pictures()).tokens if block == 1 else plain(pictures())[block - 2]
    return sum(x) / len(x)


def parts(model, block):
    """W_q, W_k, W_v (out, in), their biases, and the block's first norm."""
    layer = model.layers[block - 1]
    norm = lambda x: layer_norm(x, layer.ln1.weight, layer.ln1.bias)  # noqa: E731
    return layer.attn.qkv.weight.split(D), layer.attn.qkv.bias.split(D), norm


def literal_average(model, block, prompts, k):
    weights, biases, norm = parts(model, block)
    patches = mean_tokens(model, block)[1:]
    found = []
    for p in prompts:
        key = weights[1] @ norm(p) + biases[1]
        cosines = []
        for e in patches:
            other = weights[1] @ norm(e) + biases[1]
            cosines.append(float(key @ other / (key.norm() * other.norm())))
        nearest = sorted(range(len(cosines)), key=lambda j: -cosines[j])[:k]
        found.append(sum(patches[j] for j in nearest) / k)
    return torch.stack(found)


def literal_basis(model, block):
    """Columns: an orthonormal basis of the rows of the attention's output."""
    p = dict(model.named_parameters())
    name = f'layers.{block - 1}.attn.'
    p[name + 'proj.weight'], p[name + 'proj.bias'] = torch.eye(D).double(), torch.zeros(D).double()
    _, _, norm = parts(model, block)
    rows = attention(p, name, norm(mean_tokens(model, block))[None], HEADS)[0]
    return torch.linalg.qr(rows.T)[0]


def literal_orthogonal(model, block, prompts):
    weights, biases, _ = parts(model, block)
    q = literal_basis(model, block)
    inverse = torch.linalg.inv(weights[2])
    rest = torch.eye(D).double() - q @ q.T
    return torch.stack([
        inverse @ (rest @ (weights[2] @ p + biases[2]) - biases[2]) for p in prompts
    ])


@pytest.mark.parametrize('mix', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('k', [1, 2, 6])
def test_start_of_every_block_is_the_literal_one(k, mix):
    model, before = prepared(neighbors=k, orthogonal=mix)
    for block in range(1, DEPTH + 1):
        p = before[block - 1]
        want = (1 - mix) * literal_average(model, block, p, k)
        want = want + mix * literal_orthogonal(model, block, p)
        torch.testing.assert_close(
            model.prompter.prompts[block - 1], want, rtol=1e-9, atol=1e-9
        )


def test_shallow_and_late():
    model, before = prepared(deep=False, start_block=2, orthogonal=0.5)
    assert model.prompter.prompts.shape == (1, 3, D)
    want = literal_average(model, 2, before[0], 2) + literal_orthogonal(model, 2, before[0])
    torch.testing.assert_close(model.prompter.prompts[0], want / 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('block', range(1, DEPTH + 1))
def test_values_of_the_orthogonal_part_are_orthogonal_to_the_basis(block):
    """The untransposed inverse of the authors' code gives values that are not."""
    model, before = prepared(orthogonal=1.0)
    weights, biases, _ = parts(model, block)
    q = literal_basis(model, block)
    values = model.prompter.prompts[block - 1] @ weights[2].T + biases[2]
    assert values.norm(dim=1).min() > 1e-2
    torch.testing.assert_close(values @ q, torch.zeros(3, 7).double(), rtol=0, atol=1e-9)
    y = before[block - 1] @ weights[2].T + biases[2]
    y = y - y @ q @ q.T - biases[2]
    released = y @ torch.linalg.pinv(weights[2])
    assert ((released @ weights[2].T + biases[2]) @ q).abs().max() > 1e-2


def test_more_neighbors_than_patches_say_so():
    model = model_of(neighbors=7)
    with pytest.raises(ValueError, match=r'neighbors=7: expected at most 6'):
        model.prompter.prepare(model, [(pictures(), None)])
    assert model.prompter.needs_preparation


def test_attention_that_leaves_no_direction_says_so():
    cfg = {'type': 'VIPAMIN', 'num_tokens': 2, 'neighbors': 1, 'orthogonal': 0.5}
    model = build(cfg, img_size=48).eval()
    with pytest.raises(ValueError, match='37 tokens spans all 16 directions.* orthogonal=0'):
        model.prompter.prepare(model, [(images(2, 48, 48), None)])


def test_no_images_and_images_that_are_not_finite():
    model = model_of()
    with pytest.raises(ValueError, match='no image to start from'):
        model.prompter.prepare(model, [])
    with pytest.raises(ValueError, match='not finite'):
        model.prompter.prepare(model, [(pictures() * float('nan'), None)])


@pytest.mark.parametrize('name', ['vit_small_patch16_dinov3_qkvb', 'eva02_base_patch14_224'])
def test_on_timms_blocks(name):
    """Rotary embeddings and biases of their own: values are orthogonal to what the block gives."""
    torch.manual_seed(0)
    patch = 14 if '14' in name else 16
    vit = TimmPromptedViT(
        name, img_size=3 * patch, model_args=dict(depth=2, embed_dim=48, num_heads=4),
        prompter={'type': 'VIPAMIN', 'num_tokens': 2, 'deep': True, 'orthogonal': 1.0},
    ).double().eval()
    with torch.no_grad():
        for _, parameter in sorted(vit.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape).double() * 0.3)
    img = torch.randn(2, 3, 3 * patch, 3 * patch).double()
    vit.prompter.prepare(vit, [(img, None)])
    steps = []
    with torch.no_grad():
        vit.unroll(img, steps.append, prompted=False)
        for step, prompts in zip(steps, vit.prompter.prompts, strict=True):
            block = vit.block(step.number)
            attn, seen = block.attn, []
            last = attn.norm if hasattr(attn, 'norm') else attn.proj
            handle = last.register_forward_pre_hook(lambda m, a, seen=seen: seen.append(a[0]))
            tokens = step.x_in.mean(0, keepdim=True)
            args = {} if step.rope is None else {'rope': step.rope}
            attn(block.norm1(tokens), **args)
            handle.remove()
            outputs = attention_output(block, tokens[0], step.rope, vit.num_prefix_tokens)
            torch.testing.assert_close(outputs, seen[0][0], rtol=1e-9, atol=1e-9)
            values = block.project(prompts[None], 2, 3)[0][0].transpose(0, 1).flatten(1)
            cosines = F.normalize(values, dim=1) @ F.normalize(outputs, dim=1).T
            torch.testing.assert_close(cosines, torch.zeros_like(cosines), rtol=0, atol=1e-6)


def test_orthogonal_to_nothing_is_the_prompt_itself():
    model = model_of()
    prompts = model.prompter.prompts[0].detach()
    found = orthogonal_to(model.block(1), prompts, torch.zeros(5, D).double())
    torch.testing.assert_close(found, prompts, rtol=1e-9, atol=1e-9)


def test_a_checkpoint_holds_the_start_and_the_vit_stays():
    model, other = model_of(), build(
        {'type': 'VIPAMIN', 'num_tokens': 3, 'deep': True}, seed=1, img_size=(24, 16)
    ).eval()
    before = {k: v.clone() for k, v in model.describe().tensors.items()}
    assert model.prompter.needs_preparation
    model.prompter.prepare(model, [(pictures(), None)])
    assert all(torch.equal(v, before[k]) for k, v in model.describe().tensors.items())
    other.load_state_dict(model.state_dict())
    assert not other.prompter.needs_preparation
    assert torch.equal(other(pictures())[0], model(pictures())[0])
