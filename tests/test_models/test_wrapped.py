"""Methods around another method: nothing of its interface is lost; PAE's and DAPT's losses."""

import inspect

import pytest
import torch
from method_table import IN_LOSSES
from vit_oracles import ARCH, build, images

from lspt_mm.models import PAE, VPT, PrototypePrompt
from lspt_mm.models.observed import observe
from lspt_mm.models.prompters.base import Prompter, build_prompter, plain_config
from lspt_mm.models.prompters.frequency_bands import windows
from lspt_mm.models.prompters.wrapped import WrappedPrompter, without_dropout

D, DEPTH = ARCH['embed_dims'], ARCH['num_layers']
DEEP = {'type': 'VPT', 'deep': True}
PAE_CFG = {'type': 'PAE', 'num_tokens': 3, 'prompter': DEEP, 'width': 4}
DAPT_CFG = {'type': 'PrototypePrompt', 'num_tokens': 3, 'prompter': {'type': 'VPT'}}
INNERS = {
    'vpt-deep': DEEP,
    'bilinear': {'type': 'BilinearPrompt', 'deep': True, 'rank': 2},
    'spt': {'type': 'SelfPrompt', 'deep': True},
    'vfpt': {'type': 'FourierPrompt', 'deep': True},
    'da-vpt': {'type': 'DAVPT'},
    'projected': {'type': 'VPT', 'deep': True, 'project': 5},
}

# ---- the interface ----------------------------------------------------------------------------

#: Parts of the base class that are the same for a wrapper: they follow from its own arguments.
OF_THE_BASE = {
    'argument_names', 'argument_defaults', 'prepare', 'train', 'num_prompted', 'trains_by_hook',
    'extra_repr', '_apply', '_load_from_state_dict',
}


def test_a_wrapper_passes_on_the_whole_interface():
    interface = {
        name for name, value in vars(Prompter).items()
        if callable(value) or isinstance(value, (property, classmethod))
    }
    interface = {name for name in interface if not name.startswith('__')}
    assert interface - OF_THE_BASE == set(vars(WrappedPrompter)) & interface
    assert interface >= OF_THE_BASE


@pytest.mark.parametrize('name', ['reads_output', 'input_independent', 'first', 'next',
                                  'temperature', 'keys_values', 'adapter', 'observes', 'drop',
                                  'check_vit', 'precompute', 'before_step', 'after_step',
                                  'after_epoch', 'layout', 'consolidate',
                                  'per_block_stats'])
def test_what_it_passes_on_arrives(name, monkeypatch):
    prompter = build(DAPT_CFG).prompter
    calls = []
    monkeypatch.setattr(VPT, name, lambda self, *args: calls.append(args) or 'its answer',
                        raising=False)
    count = len(inspect.signature(getattr(Prompter, name)).parameters) - 1
    args = tuple(object() for _ in range(count))
    found = getattr(prompter, name)(*args)
    assert calls == [args]
    assert found in ('its answer', None)


@pytest.mark.parametrize('name', ['pae', 'dapt', 'da-vpt', 'dapt of da-vpt'])
def test_stripped_methods_have_the_tensors_of_inference_alone(name):
    inner = {'type': 'PAE', 'width': 4, 'prompter': {'type': 'DAVPT'}}
    cfg = {'pae': PAE_CFG, 'dapt': DAPT_CFG, 'da-vpt': {'type': 'DAVPT', 'num_tokens': 3},
           'dapt of da-vpt': {**DAPT_CFG, 'prompter': inner}}[name]
    model = build(cfg).eval()
    before = model(images())[0]
    model.prompter.strip()
    assert torch.equal(model(images())[0], before)
    ends = {key.split('.')[-1] for key in model.prompter.state_dict()}
    assert ends == ({'prompts', 'guided'} if 'da-vpt' in name else {'prompts'})


def test_losses_of_the_method_in_it_have_its_name(monkeypatch):
    monkeypatch.setattr(VPT, 'losses', lambda self, *args: {'own': torch.ones(())})
    model = build(PAE_CFG)
    found = model.prompter.losses(model, None, None)
    assert set(found) == {'vpt_own', 'koopman', 'stability'} and found['vpt_own'] == 1


def test_parts_are_prepared_by_themselves():
    spt = {'type': 'SelfPrompt', 'deep': True}
    model = build({'type': 'PrototypePrompt', 'num_tokens': 3, 'prompter': spt},
                  out_type='cls_token').eval()
    inner, outer = model.prompter.parts()
    assert (inner, outer) == (model.prompter.prompter, model.prompter)
    assert (inner.PREPARES_FROM_ALL, outer.PREPARES_FROM_ALL) == (False, True)
    inner.prepare(model, [(images(), None)])
    assert not inner.needs_preparation and outer.needs_preparation
    outer.prepare(model, [(images(), torch.eye(2).bool())])
    assert not outer.needs_preparation


def test_a_wrapper_of_a_wrapper():
    cfg = {'type': 'PrototypePrompt', 'num_tokens': 3,
           'prompter': {'type': 'PAE', 'prompter': DEEP, 'width': 4}}
    model = build({**cfg, 'dropout': 0.5}, out_type='cls_token').train()
    outer = model.prompter
    assert [type(part).__name__ for part in outer.parts()] == ['VPT', 'PAE', 'PrototypePrompt']
    assert outer.prompter.prompter.dropout == 0.5
    view = without_dropout(outer)
    plain = [view.first(torch.zeros(1, 1, D).double(), (1, 1))[0] for _ in range(2)]
    assert torch.equal(*plain) and torch.equal(plain[0], outer.prompter.prompter.prompts[:1])
    assert outer.prompter.prompter.dropout == 0.5


def test_the_config_is_stored_as_plain_data():
    cfg = {'type': PAE, 'num_tokens': 2, 'prompter': {'type': VPT, 'deep': True}}
    want = {'type': 'PAE', 'num_tokens': 2, 'prompter': {'type': 'VPT', 'deep': True}}
    assert build(cfg).prompter_cfg == want
    assert plain_config({**want, 'prompter': {'type': 'lspt_mm.VPT', 'deep': True}}) == want


@pytest.mark.parametrize('cfg', [PAE_CFG, DAPT_CFG], ids=['pae', 'dapt'])
def test_outputs_are_those_of_the_method_in_it(cfg):
    model = build(cfg, out_type='raw')
    plain = build({**cfg['prompter'], 'num_tokens': 3}, out_type='raw')
    state = {k.replace('prompter.prompter.', 'prompter.'): v for k, v in model.state_dict().items()}
    plain.load_state_dict(state, strict=False)
    assert torch.equal(model(images())[0], plain(images())[0])


# ---- PAE --------------------------------------------------------------------------------------


def literal_pae(prompter, prompts):
    """The two sums, a prompt and a block at a time."""
    a, r, u = prompter.transition, prompter.stability, prompter.projection
    z = [p @ u for p in prompts]
    count, width = z[0].shape
    koopman = stability = 0.0

    def v(one):
        return torch.trace(one @ (r.T @ r) @ one.T) / count

    for now, after in zip(z[:-1], z[1:], strict=True):
        error = now @ a - after
        koopman = koopman + (error * error).sum() / (count * width)
        growth = v(after) - v(now)
        stability = stability + (growth if growth > 0 else 0 * growth)
    return {
        'koopman': prompter.koopman_weight * koopman,
        'stability': prompter.stability_weight * stability,
    }


@pytest.mark.parametrize('start_block', [1, 2])
@pytest.mark.parametrize('inner', INNERS)
def test_pae_losses_equal_literal(inner, start_block):
    cfg = {**PAE_CFG, 'prompter': INNERS[inner], 'start_block': start_block, 'dropout': 0.3}
    model = build({**cfg, 'koopman_weight': 0.7, 'stability_weight': 0.4}).train()
    prompter, steps = model.prompter, []
    found = prompter.losses(model, None, None) if inner != 'da-vpt' else None
    # What enters the blocks in eval mode are the prompts without dropout.
    for module in model.prompter.modules():
        module.training = False
    model.unroll(images(1), steps.append)
    prompts = [step.prompts_in[0] for step in steps if step.prompts_in is not None]
    want = literal_pae(prompter, prompts)
    if found is None:  # its own losses need classes
        z = torch.cat(prompter.deep_prompts())
        torch.testing.assert_close(z, torch.stack(prompts), rtol=1e-12, atol=1e-12)
        return
    assert found.keys() == want.keys()
    leaves = list(prompter.parameters())
    for name in found:
        torch.testing.assert_close(found[name], want[name], rtol=1e-9, atol=1e-9)
        got, wanted = (torch.autograd.grad(one[name], leaves, allow_unused=True, retain_graph=True)
                       for one in (found, want))
        for a, b in zip(got, wanted, strict=True):
            a, b = (torch.zeros(()) if g is None else g for g in (a, b))
            torch.testing.assert_close(a + 0 * b, b + 0 * a, rtol=1e-9, atol=1e-9)


def test_the_losses_reach_every_parameter_and_draw_no_random_numbers():
    model = build({**PAE_CFG, 'dropout': 0.5}).train()
    state = torch.get_rng_state()
    sum(model.prompter.losses(model, None, None).values()).backward()
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in model.prompter.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    own = {f'prompter.{name}' for name, _ in model.prompter.named_parameters(recurse=False)}
    assert own == IN_LOSSES


def test_pae_starts_from_identities():
    prompter = PAE(10, DEEP)
    assert torch.equal(prompter.transition, torch.eye(256))
    assert torch.equal(prompter.stability, torch.eye(256))
    assert prompter.projection.shape == (768, 256)
    assert abs(prompter.projection.std().item() * 16 - 1) < 0.01
    # The paper's 327,680 numbers of training: U, A and R.
    assert 768 * 256 + 2 * 256**2 == 327_680


def test_pae_of_one_block_has_nothing_to_tie():
    model = build({**PAE_CFG, 'start_block': DEPTH})
    assert model.prompter.transition is None
    assert model.prompter.losses(model, None, None) == {}


# ---- its start from bands ---------------------------------------------------------------------


def test_number_of_windows():
    assert len(windows(224, 224)) == 27 * 27
    assert len(windows(32, 24)) == 3 * 2 and windows(16, 16) == [(slice(0, 16), slice(0, 16))]


def literal_band(vit, img, rows, columns, start):
    """Band-passed images by a matrix of the discrete transform; their weighted mean patch."""
    size = img.size(-1)
    k = torch.arange(size, dtype=torch.float64)
    f = torch.exp(-2j * torch.pi * torch.outer(k, k) / size)
    spectrum = f @ img.to(f.dtype) @ f.T
    mask = torch.zeros(size, size)
    for r in range(*rows):
        for c in range(*columns):
            mask[(r - size // 2) % size, (c - size // 2) % size] = 1
    only = (f.conj() @ (spectrum * mask) @ f.conj().T / size**2).real
    seen = []
    vit.unroll(only, seen.append, prompted=False)
    tokens = seen[start - 1].x_in[:, 1:].flatten(0, 1)
    total = sum((t @ t) * t for t in tokens)
    return total / sum(t @ t for t in tokens), (spectrum * mask).abs().square().sum()


@pytest.mark.parametrize('start', [1, 2])
def test_prompts_from_bands(start):
    model = build({**PAE_CFG, 'num_tokens': 2, 'start': 'mpa', 'start_block': start},
                  img_size=32).eval()
    prompter, img = model.prompter, images(3, 32, 32)
    assert prompter.needs_preparation
    line = prompter.prepare(model, [(img[:2], None), (img[2:], None)])
    assert line == 'prompts started from 2 of 9 frequency bands' and not prompter.needs_preparation
    bands = [literal_band(model, img, (r, r + 16), (c, c + 16), start)
             for r in (0, 8, 16) for c in (0, 8, 16)]
    bands.sort(key=lambda pair: -pair[1].item())
    want = torch.stack([token for token, _ in bands[:2]])
    for l, prompts in enumerate(prompter.prompter.prompts, start):
        torch.testing.assert_close(prompts, want, rtol=1e-4, atol=1e-4)
        want = model.plain_block(l, prompts[None], None)[0]


def test_too_few_bands_and_no_start_from_data():
    model = build({**PAE_CFG, 'start': 'mpa'}).eval()
    with pytest.raises(ValueError, match='16 x 16 pixels have 1 frequency bands, .* 3 prompts'):
        model.prompter.prepare(model, [(images(), None)])
    with pytest.raises(ValueError, match='no image'):
        model.prompter.prepare(model, [])
    with pytest.raises(ValueError, match='PAE as it is configured does not start from data'):
        build(PAE_CFG).prompter.prepare(model, [])


# ---- DAPT -------------------------------------------------------------------------------------


def with_prototypes(**cfg):
    model = build({**DAPT_CFG, **cfg}, out_type='cls_token').train()
    generator = torch.Generator().manual_seed(0)
    model.prompter.prototypes = torch.randn(4, D, generator=generator).double()
    model.prompter.prototypes[3] = 0  # a class without images
    return model


def test_dapt_loss_equals_literal():
    model = with_prototypes(weight=0.7)
    labels = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]).bool()
    with observe() as seen:
        model(images(4))
    found = model.prompter.losses(model, seen, labels)
    c, f = model.prompter.prototypes, seen.features[0]
    want = 0.0
    for b, target in ((0, c[0]), (1, (c[1] + c[2]) / 2)):  # the others have no known class
        unit = f[b] / f[b].norm()
        want = want + ((unit - target) * (unit - target)).sum()
    want = 0.7 * want / 4
    assert set(found) == {'distance'}
    torch.testing.assert_close(found['distance'], want, rtol=1e-9, atol=1e-9)
    prompts = model.prompter.prompter.prompts
    a, b = (torch.autograd.grad(one, prompts, retain_graph=True)[0]
            for one in (found['distance'], want))
    assert a.any()
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_prototypes_are_means_of_unit_features():
    model = build(DAPT_CFG, out_type='avg_patches').eval()
    img = images(3)
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0]]).bool()
    line = model.prompter.prepare(model, [(img[:2], labels[:2]), (img[2:], labels[2:])])
    assert line == 'prototypes of 2 classes from 4 labels'
    f = model(img, prompter=False)[0]
    f = f / f.norm(dim=1, keepdim=True)
    want = torch.stack(((f[0] + f[1]) / 2, (f[1] + f[2]) / 2, 0 * f[0]))
    torch.testing.assert_close(model.prompter.prototypes.double(), want, rtol=1e-5, atol=1e-6)
    other = build(DAPT_CFG, seed=2, out_type='avg_patches')
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.prompter.prototypes.float(), model.prompter.prototypes.float())
    assert not other.prompter.needs_preparation


@pytest.mark.parametrize('out_type', ['raw', 'featmap'])
def test_dapt_refuses_maps(out_type):
    model = build(DAPT_CFG, out_type=out_type).eval()
    with pytest.raises(ValueError, match=f"PrototypePrompt: out_type='{out_type}' is no vector"):
        model.prompter.prepare(model, [(images(), torch.eye(2).bool())])


def test_dapt_needs_classes_and_finite_images():
    model = build(DAPT_CFG, out_type='cls_token').eval()
    with pytest.raises(ValueError, match='the images have no classes'):
        model.prompter.prepare(model, [(images(), None)])
    with pytest.raises(ValueError, match='no image has a class'):
        model.prompter.prepare(model, [(images(), torch.zeros(2, 3).bool())])
    with pytest.raises(ValueError, match='no image has a class'):
        model.prompter.prepare(model, [])
    with pytest.raises(ValueError, match='not finite'):
        model.prompter.prepare(model, [(images() * float('nan'), torch.eye(2).bool())])
    with observe() as seen:
        model(images())
    with pytest.raises(ValueError, match='PrototypePrompt: the images have no classes'):
        model.prompter.losses(model, seen, None)


def test_build_by_class():
    assert isinstance(build_prompter({'type': PrototypePrompt, 'num_tokens': 2,
                                      'prompter': {'type': VPT}}).prompter, VPT)
