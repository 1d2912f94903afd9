"""W_q W_k^T and its whitening against their definitions; prompts prepared from a ViT and images."""

import io

import pytest
import torch
from method_table import METHODS
from vit_oracles import ARCH, PATCH, build, images, layer_norm

from lspt_mm.models.prompters.whitening import logit_matrix, whiten, whitening_matrix

D, DEPTH, HEADS = ARCH['embed_dims'], ARCH['num_layers'], ARCH['num_heads']


def many_images(count=24, seed=0):
    return images(count, 32, 32, seed)


def batches(*images):
    return [(img, None) for img in images]  # images without classes


def plain_tokens(model, img, block, ln1=True):
    """Patch tokens entering ``block``, literally, of all images: (n, D)."""
    plain = build(out_type='raw', out_indices=tuple(range(DEPTH)))
    x = model.embed(img).tokens if block == 1 else plain(img)[block - 2]
    if ln1:
        layer = model.layers[block - 1]
        x = layer_norm(x, layer.ln1.weight, layer.ln1.bias)
    return x[:, 1:].reshape(-1, D).detach()


def through_weights(model, block, tokens):
    """Rows W_q W_k^T x of the papers' convention, by torch's weights: k, then back through q."""
    weight = model.layers[block - 1].attn.qkv.weight.detach()
    weight_q, weight_k = weight[:D], weight[D : 2 * D]
    return torch.stack([weight_q.T @ (weight_k @ x) for x in tokens])


def test_logit_matrix_gives_the_logits_of_prompts_against_patches():
    model = build(qkv_bias=False)
    attn = model.layers[0].attn
    prompts, patches = torch.randn(3, D).double(), torch.randn(5, D).double()
    q, k, _ = attn.qkv(torch.cat((prompts, patches))).chunk(3, dim=-1)
    d = D // HEADS
    logits = torch.stack(
        [q[:3, h * d : (h + 1) * d] @ k[3:, h * d : (h + 1) * d].T for h in range(HEADS)]
    ).sum(0)
    got = prompts @ logit_matrix(model.block(1)) @ patches.T
    torch.testing.assert_close(got, logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('count', [1, 3, 24])
def test_covariance_is_the_identity_after_whitening(count):
    """But for directions in which the tokens have next to nothing, which are counted."""
    model, img = build().eval(), images(count, 32, 24)
    epsilon, blocks = 1e-8, range(1, DEPTH + 1)
    result = whiten(model, [img[:2], *img[2:].split(5)], blocks, epsilon)
    assert list(result) == list(blocks)
    for block, (matrix, weak, n) in result.items():
        tokens = through_weights(model, block, plain_tokens(model, img, block))
        assert n == len(tokens) == count * 12
        values, directions = torch.linalg.eigh(tokens.T @ tokens / n)
        strong = values > 999 * epsilon * values.mean()
        assert weak == D - strong.sum()
        assert weak >= D - n
        assert strong.sum() > min(n, D) / 2
        white = tokens @ matrix.T
        covariance = directions.T @ (white.T @ white / n) @ directions
        kept = covariance[strong][:, strong]
        torch.testing.assert_close(kept, torch.eye(len(kept)).double(), rtol=0, atol=1e-3)
        assert covariance.diagonal().max() < 1.001
        assert matrix.isfinite().all()


def test_whitening_matrix_of_a_known_covariance():
    matrix, weak = whitening_matrix(torch.diag(torch.tensor([4.0, 1.0, 1.0])).double(), 1e-12)
    torch.testing.assert_close(matrix, torch.diag(torch.tensor([0.5, 1.0, 1.0])).double())
    assert weak == 0
    # e = epsilon * mean(s) = 0.5 * 2
    matrix, weak = whitening_matrix(torch.diag(torch.tensor([4.0, 1.0, 1.0])).double(), 0.5)
    want = torch.diag(torch.tensor([5.0, 2.0, 2.0]).double().rsqrt())
    torch.testing.assert_close(matrix, want)
    assert weak == 3


def test_all_tokens_count_and_batches_do_not_matter():
    model, img = build().eval(), many_images(6)
    whole = whiten(model, [img], [1], 1e-4)[1].matrix
    split = whiten(model, [img[:1], img[1:]], [1], 1e-4)[1].matrix
    torch.testing.assert_close(whole, split, rtol=1e-6, atol=1e-6)


def test_prompts_do_not_matter():
    # It is the plain ViT's tokens that are whitened.
    img = many_images(4)
    got = [whiten(build(cfg).eval(), [img], [3], 1e-9)[3].matrix for cfg in METHODS.values()]
    assert all(torch.equal(matrix, got[0]) for matrix in got)


def test_no_images_are_an_error():
    with pytest.raises(ValueError, match='no image'):
        whiten(build().eval(), [], [1], 1e-9)


# ---- BilinearPrompt ---------------------------------------------------------------------------

WHITENED = {
    'fwhiten': {'mode': 'fwhiten'},
    'twhiten-deep': {'mode': 'twhiten', 'deep': True, 'trained_right': 2},
    'twhiten-late': {'mode': 'twhiten', 'start_block': 2},
    'fwhiten-deep-late': {'mode': 'fwhiten', 'deep': True, 'start_block': 2},
}


def bilinear(**cfg):
    cfg = {'type': 'BilinearPrompt', 'num_tokens': 3, 'epsilon': 1e-9, **cfg}
    model = build(cfg).eval()
    return model, model.prompter


@pytest.mark.parametrize('name', WHITENED)
def test_whitening_modes_start_from_the_matrix_of_each_block(name):
    cfg = WHITENED[name]
    model, prompter = bilinear(**cfg)
    first = cfg.get('start_block', 1)
    blocks = range(first, DEPTH + 1) if cfg.get('deep') else [first]
    want = whiten(model, [many_images()], blocks, 1e-9)
    assert prompter.needs_preparation
    report = prompter.prepare(model, iter(batches(many_images())))
    assert not prompter.needs_preparation
    assert prompter.right.shape == (len(want), D, D)
    for right, whitening in zip(prompter.right, want.values(), strict=True):
        torch.testing.assert_close(right, whitening.matrix)
    assert '384 patch tokens' in report


@pytest.mark.parametrize('rank', [1, 5, D])
def test_whitened_start_takes_columns_at_random_in_every_row(rank):
    model, prompter = bilinear(rank=rank, start='whiten', deep=True, trained_right=1)
    prompter.prepare(model, batches(many_images()))
    want = whiten(model, [many_images()], range(1, DEPTH + 1), 1e-9)
    columns = set()
    for right, (matrix, _, _) in zip(prompter.right, want.values(), strict=True):
        for row, whole in zip(right, matrix, strict=True):
            nearest = (row[:, None] - whole[None]).abs().min(dim=1)
            assert nearest.values.max() < 1e-12
            chosen = tuple(nearest.indices.tolist())
            assert len(set(chosen)) == rank  # none twice
            columns.add(chosen)
    assert len(columns) > 1


def test_xavier_start_needs_nothing():
    assert not bilinear(rank=2)[1].needs_preparation


@pytest.mark.parametrize('name', ['spt', 'fwhiten', 'twhiten-deep-late'])
def test_a_checkpoint_holds_the_preparation(name):
    model, other = build(METHODS[name]).eval(), build(METHODS[name], seed=1).eval()
    model.prompter.prepare(model, batches(many_images()))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert not other.prompter.needs_preparation
    assert torch.equal(other(images())[0], model(images())[0])


@pytest.mark.parametrize('name', ['fwhiten', 'twhiten-deep-late', 'spt'])
def test_preparation_touches_the_prompter_alone(name):
    model = build(METHODS[name]).eval()
    before = {k: v.clone() for k, v in model.describe().tensors.items()}
    model.prompter.prepare(model, batches(many_images()))
    assert all(torch.equal(v, before[k]) for k, v in model.describe().tensors.items())
    assert all(not p.requires_grad or p.grad is None for p in model.parameters())


# ---- SelfPrompt -------------------------------------------------------------------------------


def spt(**cfg):
    model = build({'type': 'SelfPrompt', 'num_tokens': 3, **cfg}).eval()
    return model, model.prompter


@pytest.mark.parametrize('deep', [False, True])
def test_sampled_prompts_are_tokens_of_their_block(deep):
    model, prompter = spt(deep=deep)
    prompter.prepare(model, batches(many_images(4)))
    assert len(prompter.prompts) == (DEPTH if deep else 1)
    for block, prompts in enumerate(prompter.prompts, 1):
        tokens = plain_tokens(model, many_images(4), block, ln1=False)
        distance, index = torch.cdist(prompts, tokens).min(dim=1)
        assert distance.max() < 1e-5
        assert len(index.unique()) == 3


def test_tokens_of_block_one_before_their_position():
    model, prompter = spt(deep=True, position=False)
    img = many_images(4)
    prompter.prepare(model, batches(img))
    weight = model.patch_embed.projection.weight.flatten(1)
    patches = torch.nn.functional.unfold(img, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
    tokens = [patches @ weight.T + model.patch_embed.projection.bias]
    tokens.append(plain_tokens(model, img, 2, ln1=False))
    for prompts, of_block in zip(prompter.prompts, tokens, strict=False):
        assert torch.cdist(prompts, of_block).min(dim=1).values.max() < 1e-5


def test_mean_prompts_of_as_many_images_are_their_means():
    model, prompter = spt(start='mean', start_block=2)
    img = many_images(3)
    prompter.prepare(model, batches(img[:1], img[1:]))
    tokens = plain_tokens(model, img, 2, ln1=False).view(3, 16, D)
    torch.testing.assert_close(prompter.prompts[0], tokens.mean(1), rtol=1e-5, atol=1e-5)


def test_kmeans_finds_clusters():
    model, prompter = spt(start='kmeans', num_tokens=4)
    torch.nn.init.zeros_(model.pos_embed)
    # Patches of four plain colours: in block 1 there are four different tokens.
    colours = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double() * 3
    img = colours[torch.arange(64) % 4].view(4, 4, 4, 3)
    img = img.permute(0, 3, 1, 2).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    torch.manual_seed(0)
    prompter.prepare(model, batches(img))
    tokens = plain_tokens(model, img, 1, ln1=False)
    distances = torch.cdist(tokens, prompter.prompts[0].detach()).min(dim=1).values
    assert distances.max() < 1e-4


@pytest.mark.parametrize('start', ['sample', 'kmeans', 'mean'])
def test_too_few_tokens_say_so(start):
    model, prompter = spt(start=start, num_tokens=17)
    with pytest.raises(ValueError, match='16 patch tokens .* 17 prompts; .* num_images'):
        prompter.prepare(model, batches(many_images(1)))
    assert prompter.needs_preparation


# ---- what cannot be started from ----------------------------------------------------------------


@pytest.mark.parametrize(
    'cfg',
    [{'type': 'BilinearPrompt', 'num_tokens': 2, 'rank': 3}, {'type': 'VPT', 'num_tokens': 2}],
)
def test_methods_that_do_not_start_from_data(cfg):
    model = build(cfg)
    before = {k: v.clone() for k, v in model.prompter.state_dict().items()}
    with pytest.raises(ValueError, match='does not start from data'):
        model.prompter.prepare(model, batches(many_images(1)))
    assert all(torch.equal(v, before[k]) for k, v in model.prompter.state_dict().items())


@pytest.mark.parametrize(
    'cfg',
    [
        {'type': 'BilinearPrompt', 'num_tokens': 2, 'rank': 3, 'start': 'whiten'},
        {'type': 'SelfPrompt', 'num_tokens': 2, 'start': 'sample'},
        {'type': 'SelfPrompt', 'num_tokens': 2, 'start': 'kmeans'},
    ],
    ids=str,
)
def test_images_that_are_not_finite(cfg):
    model = build(cfg)
    bad = many_images(2)
    bad[1, 0, 3, 3] = float('nan')
    with pytest.raises(ValueError, match='not finite'):
        model.prompter.prepare(model, batches(bad))
    assert model.prompter.needs_preparation


def test_the_smallest_epsilon_counts_all_directions_without_variance():
    model = build({'type': 'BilinearPrompt', 'num_tokens': 2, 'mode': 'fwhiten', 'epsilon': 1e-12})
    one = many_images(1)[:, :, :PATCH, : 2 * PATCH]  # two patches: two directions at the most
    result = whiten(model, [one], [1], 1e-12)[1]
    assert result.weak >= D - 2 and result.matrix.isfinite().all()
