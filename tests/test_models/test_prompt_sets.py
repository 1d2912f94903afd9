"""Several prompt sets on one ViT compute what separate models compute."""

import pytest
import torch
from method_table import METHODS
from miniatures import ARCH, tiny_vit
from torch import nn

from lspt_mm.checkpoints.prompt_only import strip_base_weights
from lspt_mm.checkpoints.records import record_of
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT, PromptSets


def vit(prompter=None, **kwargs):
    kwargs = {'arch': ARCH, 'img_size': 32, 'patch_size': 8, 'out_type': 'raw', **kwargs}
    return PromptedViT(prompter=prompter, **kwargs).eval()


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp('base') / 'base.pth'
    torch.save({'model': tiny_vit().state_dict()}, path)
    return str(path)


@pytest.fixture(scope='module')
def images():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def tuned(base, prompter, seed, **kwargs):
    """A whole model with prompts that differ from seed to seed."""
    torch.manual_seed(seed)
    model = vit(prompter, pretrained=base, **kwargs)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.prompter.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        for name, buffer in model.prompter.named_buffers():
            if name.endswith('prepared'):
                buffer.fill_(True)
    return model


def save(model, path, **beside):
    state = {f'backbone.{k}': v for k, v in model.state_dict().items()} | beside
    record = record_of(model, 'somewhere.pth')
    torch.save({'state_dict': strip_base_weights(state, 'backbone', record)}, path)
    return str(path)


def loaded(base, **kwargs):
    plain = vit(pretrained=base, **kwargs)
    plain.init_weights()
    return plain


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(
    'out_type', ['raw', pytest.param('avg_tokens', marks=pytest.mark.slow)]
)
def test_a_mixed_batch_equals_separate_models(method, out_type, base, images, tmp_path):
    cfg = METHODS[method]
    models = {n: tuned(base, cfg, i, out_type=out_type) for i, n in enumerate('abc')}
    files = {name: save(model, tmp_path / f'{name}.pth') for name, model in models.items()}
    sets = PromptSets(loaded(base, out_type=out_type), files)
    names = ['b', 'a', 'c', 'a', 'b', 'a']
    (out,) = sets(images, names)
    for row, name in enumerate(names):
        (expected,) = models[name](images[row : row + 1])
        torch.testing.assert_close(out[row : row + 1], expected, rtol=1e-5, atol=1e-5)
    for name, model in models.items():
        torch.testing.assert_close(sets(images, name)[0], model(images)[0], rtol=1e-5, atol=1e-5)


def test_different_methods_in_one_batch(base, images, tmp_path):
    chosen = {
        'vpt': {'type': 'VPT', 'num_tokens': 3},
        'gated': {'type': 'GatedPrompt', 'num_tokens': 2},
        'late': {'type': 'GatedPrompt', 'num_tokens': 2, 'start_block': 3},
        'lspt': {'type': 'LSPT', 'num_tokens': 2},
    }
    models = {
        name: tuned(base, cfg, seed, out_indices=(1, 3))
        for seed, (name, cfg) in enumerate(chosen.items())
    }
    files = {name: save(model, tmp_path / f'{name}.pth') for name, model in models.items()}
    sets = PromptSets(loaded(base, out_indices=(1, 3)), files)
    names = ['vpt', 'gated', 'lspt', 'late', 'gated', 'vpt']
    outs = sets(images, names)
    assert len(outs) == 2
    for row, name in enumerate(names):
        for out, expected in zip(outs, models[name](images[row : row + 1]), strict=True):
            torch.testing.assert_close(out[row : row + 1], expected, rtol=1e-5, atol=1e-5)


def test_one_pass_for_sets_of_one_method(base, images, tmp_path, monkeypatch):
    cfg = {'type': 'LSPT', 'num_tokens': 2}
    files = {n: save(tuned(base, cfg, i), tmp_path / f'{n}.pth') for i, n in enumerate('ab')}
    # Another dropout in training makes no other function.
    dropout = tuned(base, {**cfg, 'dropout': 0.1}, 5)
    sets = PromptSets(loaded(base), {**files, 'c': save(dropout, tmp_path / 'c.pth')})
    sizes = []
    for vit in sets.vits.values():
        qkv = vit.layers[0].attn.qkv
        count = lambda x, old=qkv.forward: sizes.append(len(x)) or old(x)  # noqa: E731
        monkeypatch.setattr(qkv, 'forward', count)
    sets(images, ['a', 'b', 'c', 'a', 'b', 'c'])
    assert sizes == [6]


def test_one_vit_in_memory(base, images, tmp_path):
    cfg = {'type': 'VPT', 'num_tokens': 2}
    plain = loaded(base)
    files = {n: save(tuned(base, cfg, i), tmp_path / f'{n}.pth') for i, n in enumerate('abcd')}
    sets = PromptSets(plain, files)
    own = sum(p.numel() for p in plain.parameters())
    assert sum(p.numel() for p in sets.parameters()) == own + 4 * 2 * 16
    assert not any(p.requires_grad for vit in sets.vits.values() for p in vit.parameters())
    assert not sets.train().vits['a'].training
    # The plain ViT is still that.
    assert torch.equal(plain(images)[0], loaded(base)(images)[0])


def test_heads_come_along(base, tmp_path):
    model = tuned(base, {'type': 'VPT', 'num_tokens': 2}, 0)
    head = nn.Linear(16, 3)
    path = save(model, tmp_path / 'a.pth', **{f'head.{k}': v for k, v in head.state_dict().items()})
    sets = PromptSets(loaded(base), {'a': path})
    assert torch.equal(sets.others['a']['head.weight'], head.weight)
    assert set(sets.others['a']) == {'head.weight', 'head.bias'}


def test_another_base_is_refused(base, tmp_path):
    path = save(tuned(base, {'type': 'VPT', 'num_tokens': 2}, 0), tmp_path / 'a.pth')
    torch.save({'model': tiny_vit(seed=3).state_dict()}, tmp_path / 'other.pth')
    with pytest.raises(InputError, match='fingerprint'):
        PromptSets(loaded(str(tmp_path / 'other.pth')), {'a': path})
    with pytest.raises(InputError, match='no weights'):
        PromptSets(vit(), {'a': path})


def test_a_file_that_tunes_the_vit_is_refused(base, tmp_path):
    model = tuned(base, {'type': 'VPT', 'num_tokens': 2}, 0, tune='prompts+bias')
    with torch.no_grad():
        model.layers[1].ln1.bias.add_(1.0)
    with pytest.raises(InputError, match='has its own'):
        PromptSets(loaded(base), {'a': save(model, tmp_path / 'a.pth')})


def test_a_full_checkpoint_is_refused(base, tmp_path):
    model = tuned(base, {'type': 'VPT', 'num_tokens': 2}, 0)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'full.pth')
    with pytest.raises(InputError, match='not a prompt-only checkpoint'):
        PromptSets(loaded(base), {'a': str(tmp_path / 'full.pth')})


def test_names(base, images, tmp_path):
    path = save(tuned(base, {'type': 'VPT', 'num_tokens': 2}, 0), tmp_path / 'a.pth')
    sets = PromptSets(loaded(base), {'a': path})
    with pytest.raises(ValueError, match="'b'; there are a"):
        sets(images, 'b')
    with pytest.raises(ValueError, match='2 names for 6 images'):
        sets(images, ['a', 'a'])
    with pytest.raises(InputError, match='already'):
        sets.add('a', path)


def test_features_taken_otherwise_are_refused(base, tmp_path):
    path = save(tuned(base, {'type': 'VPT', 'num_tokens': 2}, 0, out_type='avg_tokens'),
                tmp_path / 'a.pth')
    with pytest.raises(InputError, match='avg_tokens.*cls_token'):
        PromptSets(loaded(base, out_type='cls_token'), {'a': path})
    PromptSets(loaded(base, out_type='avg_tokens'), {'a': path})


def test_other_heads_are_refused(base, tmp_path):
    path = save(tuned(base, {'type': 'VPT', 'num_tokens': 2}, 0), tmp_path / 'a.pth')
    with pytest.raises(InputError, match="'num_heads': 2.*'num_heads': 4"):
        PromptSets(loaded(base, arch=dict(ARCH, num_heads=4)), {'a': path})


def test_no_dropout_and_any_name(base, images, tmp_path):
    path = tmp_path / 'a.pth'
    save(tuned(base, {'type': 'VPT', 'num_tokens': 2}, 0), path)
    noisy = loaded(base, drop_rate=0.5, drop_path_rate=0.5).train()
    sets = PromptSets(noisy, {'v1.0': path, '': path, 'keys': path})
    assert not sets.training and not noisy.training
    assert torch.equal(sets(images, 'v1.0')[0], sets(images, ['', 'keys'] * 3)[0])
    with pytest.raises(InputError, match='string'):
        sets.add(1, path)


def test_prompts_that_are_not_whole(base, tmp_path):
    path = tmp_path / 'a.pth'
    save(tuned(base, {'type': 'GatedPrompt', 'num_tokens': 2}, 0), path)
    content = torch.load(path, weights_only=True)
    del content['state_dict']['backbone.prompter.gate_logits']
    torch.save(content, path)
    with pytest.raises(InputError, match=r'a\.pth: incomplete prompts'):
        PromptSets(loaded(base), {'a': path})


def test_prompts_that_were_never_prepared(base, tmp_path):
    cfg = {'type': 'BilinearPrompt', 'num_tokens': 2, 'rank': 2, 'start': 'whiten'}
    model = tuned(base, cfg, 0)
    model.prompter.prepared.fill_(False)
    path = save(model, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='never started from data'):
        PromptSets(loaded(base), {'a': path})


def test_only_equal_tensors_of_models_are_shared():
    torch.manual_seed(0)
    one = PromptedViT(ARCH, img_size=32, patch_size=8)
    two = PromptedViT(ARCH, img_size=32, patch_size=8)
    two.load_state_dict(one.state_dict())
    with torch.no_grad():
        two.layers[0].ffn.layers[0][0].weight[0, 0] += 1e-7
        two.layers[1].ln1.weight.neg_()
    sets = PromptSets()
    assert sets.add('one', one) == 0
    saved = sets.add('two', two)
    kept = {n for n, p in two.named_parameters() if p is not dict(one.named_parameters())[n]}
    assert kept == {'layers.1.ln1.weight', 'layers.0.ffn.layers.0.0.weight'}
    total = sum(p.nbytes for p in two.parameters())
    assert saved == total - sum(dict(two.named_parameters())[n].nbytes for n in kept)


@pytest.mark.parametrize('prompter', [None, {'type': 'GatedPrompt', 'num_tokens': 2}])
def test_lora_of_a_file(base, images, tmp_path, prompter):
    tune = 'lora-3' if prompter is None else 'prompts+lora-3'
    files, models = {}, {}
    for seed, name in enumerate('ab'):
        torch.manual_seed(seed)
        models[name] = vit(prompter, pretrained=base, tune=tune)
        models[name].init_weights()
        for parameter in models[name].parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.3)
        files[name] = save(models[name], tmp_path / f'{name}.pth')
    prompts = tuned(base, {'type': 'VPT', 'num_tokens': 3}, 7)
    models['c'], files['c'] = prompts, save(prompts, tmp_path / 'c.pth')
    sets = PromptSets(loaded(base), files)
    names = ['b', 'a', 'c', 'a', 'b', 'a']
    (out,) = sets(images, names)
    for row, name in enumerate(names):
        want = models[name](images[row : row + 1])[0]
        torch.testing.assert_close(out[row : row + 1], want, rtol=1e-5, atol=1e-5)
    assert sets.base.lora is None  # the ViT itself stays plain


def test_lora_of_other_parts_needs_its_model(base, tmp_path):
    model = vit(None, pretrained=base, tune='lora-3', lora_parts='qv')
    model.init_weights()
    with pytest.raises(InputError, match='not on all of queries, keys and values'):
        PromptSets(loaded(base), {'a': save(model, tmp_path / 'a.pth')})


def test_sets_without_prompts_in_one_batch(base, images):
    sets = PromptSets()
    for name in 'ab':
        sets.add(name, loaded(base))
    torch.testing.assert_close(sets(images, list('ababab'))[0], loaded(base)(images)[0])
