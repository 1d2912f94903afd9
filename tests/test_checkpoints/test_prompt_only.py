"""Prompt-only state dicts: through every loader the same model, and never without its base."""

import hashlib
import json

import numpy as np
import pytest
import torch
from miniatures import ARCH, tiny_vit
from mmengine.runner.checkpoint import load_state_dict as mmengine_load
from torch import nn

from lspt_mm.checkpoints.prompt_only import strip_base_weights
from lspt_mm.checkpoints.publishing import public_source, without_folders
from lspt_mm.checkpoints.records import RECORD, fingerprint, record_of, records_in, to_tensor
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT

LSPT = {'type': 'LSPT', 'num_tokens': 2}


class Segmentor(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(16, 3)


def torch_load(model, state):
    model.load_state_dict(state, strict=True)


LOADERS = {'torch, strict': torch_load, 'mmengine': mmengine_load}


@pytest.fixture
def base(tmp_path):
    path = tmp_path / 'base.pth'
    torch.save({'model': tiny_vit().state_dict()}, path)
    return str(path)


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def build(prompter=LSPT, pretrained=None, **kwargs):
    kwargs = {'arch': ARCH, 'img_size': 32, 'patch_size': 8, 'out_type': 'raw', **kwargs}
    return Segmentor(PromptedViT(prompter=prompter, pretrained=pretrained, **kwargs)).eval()


def trained(base, **kwargs):
    """A model as after training: every trained tensor has moved."""
    model = build(pretrained=base, **kwargs)
    model.backbone.init_weights()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def prompt_only(model, source=None):
    vit = model.backbone
    record = record_of(vit, source or vit.weights.source)
    return strip_base_weights(model.state_dict(), 'backbone', record)


@pytest.mark.parametrize('tune', ['prompts', 'prompts+bias', 'partial-1'])
@pytest.mark.parametrize('loader', LOADERS)
def test_it_is_the_same_model(loader, tune, base, images):
    model = trained(base, tune=tune)
    state = prompt_only(model)
    keys = set(state)
    fresh = build(tune=tune)
    LOADERS[loader](fresh, state)
    assert set(state) == keys  # the caller's dict is left alone
    assert fresh.backbone.weights.source == base
    for key, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value), key
    assert torch.equal(fresh.backbone(images)[0], model.backbone(images)[0])


def test_what_is_left_out(base):
    names = set(prompt_only(trained(base)))
    ours = {f'backbone.prompter.{n}' for n, _ in build().backbone.prompter.named_parameters()}
    assert names == ours | {'head.weight', 'head.bias', f'backbone.{RECORD}'}
    biases = set(prompt_only(trained(base, tune='bias'))) - names
    assert biases and all(name.endswith('.bias') for name in biases)
    last = set(prompt_only(trained(base, tune='partial-1'))) - names
    assert all(n.startswith(('backbone.layers.3.', 'backbone.ln1.')) for n in last)


def test_a_resized_position_embedding_is_kept(base, images):
    model = trained(base, img_size=48)
    state = prompt_only(model)
    assert 'backbone.pos_embed' in state
    fresh = build(img_size=48)
    torch_load(fresh, state)
    big = torch.randn(1, 3, 48, 48)
    assert torch.equal(fresh.backbone(big)[0], model.backbone(big)[0])


def test_other_image_sizes_resize_the_bases_own(base):
    """Trained at the file's own grid, used at another: as for a full checkpoint."""
    state = prompt_only(trained(base))
    assert 'backbone.pos_embed' not in state
    fresh, reference = build(img_size=48), build(img_size=48, pretrained=base)
    mmengine_load(fresh, state)
    reference.backbone.init_weights()
    assert torch.equal(fresh.backbone.pos_embed, reference.backbone.pos_embed)
    # And where the model has its base already, resized.
    ready = build(img_size=48, pretrained=base)
    ready.backbone.init_weights()
    mmengine_load(ready, state)
    assert torch.equal(ready.backbone.pos_embed, reference.backbone.pos_embed)


def test_with_and_without_the_head(base, images):
    model = trained(base)
    state = {k: v for k, v in prompt_only(model).items() if k.startswith('backbone.')}
    fresh = build()
    mmengine_load(fresh, state)
    assert torch.equal(fresh.backbone(images)[0], model.backbone(images)[0])


def test_a_base_that_is_there_already_is_not_read_again(base, tmp_path):
    state = prompt_only(trained(base))
    ready = build(pretrained=base)
    ready.backbone.init_weights()
    (tmp_path / 'base.pth').unlink()
    torch_load(ready, state)
    assert ready.backbone.weights.source == base


def test_the_configs_base_is_taken_where_the_recorded_one_is_gone(base, tmp_path):
    state = prompt_only(trained(base), source='elsewhere/base.pth')
    with pytest.raises(InputError, match=r'elsewhere/base\.pth.*--pretrained'):
        torch_load(build(), state)
    fresh = build(pretrained=base)  # not read yet: init_weights() was not called
    torch_load(fresh, state)
    assert fresh.backbone.weights.source == base


@pytest.fixture
def other(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({'model': tiny_vit(seed=7).state_dict()}, path)
    return str(path)


@pytest.mark.parametrize('loader', LOADERS)
def test_another_base_is_refused(loader, base, other):
    state = prompt_only(trained(base))
    ready = build(pretrained=other)
    ready.backbone.init_weights()
    before = {k: v.clone() for k, v in ready.state_dict().items()}
    with pytest.raises(InputError, match='differs from the loaded backbone'):
        LOADERS[loader](ready, state)
    assert all(torch.equal(v, before[k]) for k, v in ready.state_dict().items())


def test_a_base_named_in_the_config_is_not_passed_over(base, other):
    # The recorded one is there, but the user has said which to take.
    state = prompt_only(trained(base))
    with pytest.raises(InputError, match='other.pth: another ViT'):
        torch_load(build(pretrained=other), state)


def test_one_changed_value_in_the_base_is_enough(base, tmp_path):
    state = prompt_only(trained(base))
    content = torch.load(base)
    content['model']['blocks.2.mlp.fc1.weight'][0, 0] += 1e-4
    torch.save(content, base)
    with pytest.raises(InputError, match='another ViT'):
        torch_load(build(), state)


def test_a_base_of_another_family_with_the_same_weights_will_do(base, tmp_path):
    from lspt_mm.checkpoints import load_vit_state_dict

    state = prompt_only(trained(base), source='gone.pth')
    converted = tmp_path / 'mmpretrain.pth'
    torch.save({'state_dict': load_vit_state_dict(base).tensors}, converted)
    fresh = build(pretrained=str(converted))
    torch_load(fresh, state)
    assert fresh.backbone.weights.source == str(converted)


@pytest.mark.parametrize(
    ('prompter', 'message'),
    [
        ({'type': 'VPT', 'num_tokens': 2}, "type 'LSPT'.*type 'VPT'"),
        (None, "type 'LSPT'.*no prompter"),
        ({'type': 'LSPT', 'num_tokens': 3}, 'num_tokens=2.*num_tokens=3'),
        ({'type': 'LSPT', 'num_tokens': 2, 'cell': 'diagonal'}, "cell='full'.*cell='diagonal'"),
        ({'type': 'LSPT', 'num_tokens': 2, 'hidden_norm': True}, 'hidden_norm=False.*True'),
        ({'type': 'LSPT', 'num_tokens': 2, 'start_block': 2}, 'start_block=1.*start_block=2'),
    ],
)
def test_another_method_is_refused(prompter, message, base):
    state = prompt_only(trained(base))
    with pytest.raises(InputError, match=message):
        mmengine_load(build(prompter), state)


def test_methods_with_the_same_tensors_are_told_apart(base):
    vpt = {'type': 'VPT', 'num_tokens': 2}
    fourier = {'type': 'FourierPrompt', 'num_tokens': 2}
    with pytest.raises(InputError, match="type 'VPT'.*type 'FourierPrompt'"):
        torch_load(build(fourier), prompt_only(trained(base, prompter=vpt)))


def test_settings_of_the_training_alone_may_differ(base):
    state = prompt_only(trained(base))
    torch_load(build({**LSPT, 'dropout': 0.1, 'forget_bias': 0.5, 'cell': 'full'}), state)


def test_without_prompts(base, images):
    """A baseline's head on a frozen ViT can be kept without the ViT as well."""
    model = trained(base, prompter=None, tune='bias')
    fresh = build(None, tune='bias')
    torch_load(fresh, prompt_only(model))
    assert torch.equal(fresh.backbone(images)[0], model.backbone(images)[0])


def test_megabytes_on_vit_b(tmp_path):
    """VPT-shallow with a linear head of 200 classes: under 2 MB where the whole is 344 MB."""
    from lspt_mm.checkpoints.io import write_checkpoint

    vit = PromptedViT('base', prompter={'type': 'VPT', 'num_tokens': 100})
    vit.weights = vit.weights._replace(modified=())
    state = {f'backbone.{k}': v for k, v in vit.state_dict().items()}
    state.update({'head.fc.weight': torch.zeros(200, 768), 'head.fc.bias': torch.zeros(200)})
    record = record_of(vit, 'mae_pretrain_vit_base.pth')
    small = strip_base_weights(state, 'backbone', record)
    write_checkpoint(tmp_path / 'small.pth', small, {})
    size = (tmp_path / 'small.pth').stat().st_size
    assert 4 * (76800 + 200 * 769) <= size < 1e6
    assert sum(4 * v.numel() for v in state.values()) == pytest.approx(344e6, rel=0.005)


# ---- never at random --------------------------------------------------------------------------


@pytest.mark.parametrize('loader', LOADERS)
def test_without_a_record_it_is_refused_when_used(loader, base, images):
    model = trained(base)
    state = {k: v for k, v in prompt_only(model).items() if RECORD not in k}
    fresh = build()
    if loader == 'mmengine':
        mmengine_load(fresh, state)
        with pytest.raises(InputError, match='lacks the weights of the ViT'):
            fresh.backbone(images)
        fresh.backbone.pretrained = base
        fresh.backbone.init_weights()
        assert torch.equal(fresh.backbone(images)[0], model.backbone(images)[0])
    else:
        with pytest.raises(RuntimeError, match='Missing key'):
            torch_load(fresh, state)


def test_a_head_alone_is_refused_when_used(base, images):
    model = trained(base)
    fresh = build()
    mmengine_load(fresh, {k: v for k, v in model.state_dict().items() if k.startswith('head.')})
    with pytest.raises(InputError, match='lacks the weights'):
        fresh.backbone(images)


def test_a_model_that_nothing_was_loaded_into_runs(images):
    assert build().backbone(images)[0].shape == (2, 17, 16)


def test_weights_that_are_named_but_not_read_are_refused_when_used(base, images):
    """mmpretrain's get_model(cfg), mmseg's init_model(cfg) call no init_weights()."""
    model = build(pretrained=base)
    with pytest.raises(InputError, match=r'call init_weights\(\)'):
        model.backbone(images)
    model.backbone.init_weights()
    model.backbone(images)


def test_another_number_of_heads_is_refused(base):
    state = prompt_only(trained(base))
    with pytest.raises(InputError, match='num_heads=2.*num_heads=4'):
        torch_load(build(arch=dict(ARCH, num_heads=4)), state)


def test_a_norm_that_the_run_did_not_have(base):
    """From dense features without the final norm to pooled ones with it: another task."""
    state = prompt_only(trained(base, out_type='featmap', final_norm=False))
    assert not any('ln1' in k and 'layers' not in k for k in state)
    fresh, reference = build(), build(pretrained=base)
    mmengine_load(fresh, state)
    reference.backbone.init_weights()
    assert torch.equal(fresh.backbone.ln1.weight, reference.backbone.ln1.weight)


def test_what_was_loaded_is_written_again_as_it_was(base):
    state = prompt_only(trained(base))
    fresh = build()
    torch_load(fresh, state)
    again = prompt_only(fresh)
    assert set(again) == set(state) and all(torch.equal(again[k], v) for k, v in state.items())


@pytest.mark.parametrize(
    'damage', [b'', b'{', b'[]', b'{"source": 1}', b'\xff\xfe', b'null'], ids=repr
)
def test_a_damaged_record(damage, base):
    state = prompt_only(trained(base))
    state[f'backbone.{RECORD}'] = torch.tensor(list(damage), dtype=torch.uint8)
    with pytest.raises(InputError, match=RECORD):
        torch_load(build(), state)


def test_fields_of_a_later_version_are_passed_over(base):
    state = prompt_only(trained(base))
    fields = records_in(state)['backbone']._asdict()
    text = json.dumps({**fields, 'colour': 'green'}).encode()
    state[f'backbone.{RECORD}'] = torch.tensor(list(text), dtype=torch.uint8)
    torch_load(build(), state)


# ---- the fingerprint --------------------------------------------------------------------------


def test_fingerprint_by_hand():
    a = torch.tensor([[1.0, -2.0]])
    b = torch.tensor([0.5], dtype=torch.float16)
    text = b'a (1, 2);' + np.array([1, -2], '<f4').tobytes() + b'b (1,);'
    expected = hashlib.sha256(text + np.array([0.5], '<f4').tobytes()).hexdigest()
    assert fingerprint({'b': b, 'a': a}) == fingerprint({'a': a, 'b': b}) == expected
    assert fingerprint({'a': a.T.contiguous().T, 'b': b.double()}) == expected
    assert fingerprint({'a': a.T, 'b': b}) != expected
    assert fingerprint({'a': a, 'c': b}) != expected


def test_the_record_passes_through_dicts_and_files(base, tmp_path):
    model = trained(base)
    state = {k: v.half() if v.is_floating_point() else v for k, v in prompt_only(model).items()}
    torch.save(state, tmp_path / 'half.pth')
    fresh = build()
    torch_load(fresh, torch.load(tmp_path / 'half.pth', weights_only=True))
    assert fresh.backbone.weights.source == base
    record = records_in(state)['backbone']
    assert torch.equal(to_tensor(record), state[f'backbone.{RECORD}'])
    assert record.prompter == LSPT and record.tune == 'prompts'
    assert record.arch == {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'patch_size': [8, 8]}


@pytest.mark.parametrize(
    ('source', 'public'),
    [
        ('/home/me/vit.pth', 'vit.pth'), ('timm:local-dir:/home/me/vit', 'timm:local-dir:vit'),
        ('timm:vit_base_patch16_224.mae', 'timm:vit_base_patch16_224.mae'),
        ('https://a.org/b/vit.pth', 'https://a.org/b/vit.pth'),
    ],
)
def test_published_files_have_no_local_folders(source, public):
    assert public_source(source) == public
    assert without_folders({'model': [source]}) == {'model': [public]}


def test_published_configs_have_no_relative_folders_of_data():
    dataset = dict(data_root='my/run/data', data_prefix=dict(img_path='images/train'))
    found = without_folders(dict(
        data_root='my/run/data/', train=[dict(dataset=dataset)], experiment=dict(task='my/photos'),
        run=dict(data='my/run/data', task='dtd'), data=dict(task=None),
    ))
    assert found == dict(
        data_root='data', train=[dict(dataset=dict(dataset, data_root='data'))],
        experiment=dict(task='photos'), run=dict(data='data', task='dtd'), data=dict(task=None),
    )
