"""Files for TimmPromptedViT: timm's and the authors' names, whole or not at all; runs with it."""

import json
import shutil

import pytest
import torch
from miniatures import once, run_ok, write_segmentation
from safetensors.torch import save_file

from lspt_mm.apis import init_model
from lspt_mm.checkpoints.prompt_only import strip_base_weights
from lspt_mm.checkpoints.records import record_of
from lspt_mm.errors import InputError
from lspt_mm.models import TimmPromptedViT

SMALL = dict(depth=3, embed_dim=48, num_heads=4)
DINOV3, DINOV2 = 'vit_small_patch16_dinov3_qkvb', 'vit_small_patch14_reg4_dinov2'


def build(model=DINOV3, seed=0, **kwargs):
    kwargs = dict({'model_args': SMALL, 'img_size': 56 if model == DINOV2 else 64}, **kwargs)
    torch.manual_seed(seed)
    vit = TimmPromptedViT(model, out_type='raw', **kwargs)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return vit.eval()


def official_dinov3(vit):
    """Meta's names of ``vit``'s tensors."""
    state = {}
    for key, value in vit.state_dict().items():
        for ours, theirs in (('reg_token', 'storage_tokens'), ('gamma_1', 'ls1.gamma'),
                             ('gamma_2', 'ls2.gamma')):
            key = key.replace(ours, theirs)
        if key.endswith('attn.q_bias'):
            block = key.removesuffix('q_bias')
            v = vit.state_dict()[f'{block}v_bias']
            state[f'{block}qkv.bias'] = torch.cat((value, torch.full_like(value, 3.0), v))
            state[f'{block}qkv.bias_mask'] = torch.ones(len(value) * 3)
        elif not key.endswith('v_bias'):
            state[key] = value
    state['mask_token'] = torch.zeros(1, 48)
    state['rope_embed.periods'] = torch.ones(3)
    return state


def write(path, vit, form):
    state = vit.vit.state_dict()
    if form == 'official':
        state = official_dinov3(vit.vit)
    elif form == 'safetensors':
        path = path.with_suffix('.safetensors')
        save_file({k: v.contiguous() for k, v in state.items()}, path)
        return str(path)
    elif form == 'wrapped':
        state = {'teacher': {f'backbone.{k}': v for k, v in state.items()}, 'epoch': 3}
    elif form == 'with a head':
        state = {**state, 'head.weight': torch.ones(10, 48), 'head.bias': torch.ones(10)}
    torch.save(state, path)
    return str(path)


def filled(path, model=DINOV3, **kwargs):
    vit = build(model, seed=7, pretrained=path, **kwargs)
    vit.init_weights()
    return vit


@pytest.mark.parametrize('form', ['timm', 'official', 'safetensors', 'wrapped', 'with a head'])
def test_files_give_the_same_features(form, tmp_path, capsys):
    vit = build()
    loaded = filled(write(tmp_path / 'vit.pth', vit, form))
    img = torch.randn(2, 3, 64, 96)
    assert torch.equal(loaded(img)[0], vit(img)[0])
    assert loaded.weights.modified == () and loaded.weights.source
    assert 'not an nn.Parameter' not in capsys.readouterr().out


def without(key):
    return lambda state: state.pop(key)


def put(key, value):
    return lambda state: state.update({key: value})


def twice(state):
    for key in list(state):
        state[f'a.{key}'] = state[f'b.{key}'] = state.pop(key)


@pytest.mark.parametrize(('change', 'message'), [
    (without('blocks.1.mlp.fc1.weight'), r'missing: vit\.blocks\.1\.mlp\.fc1\.weight'),
    (without('reg_token'), r'missing: vit\.reg_token'),
    (put('norm.weight', torch.ones(47)), r'of another shape: vit\.norm\.weight \(47,\) in'),
    (put('blocks.3.norm1.weight', torch.ones(48)), r'without a place .*blocks\.3\.norm1'),
    (put('blocks.0.attn.lora_A', torch.ones(4, 48)), 'LoRA that is not merged'),
    (put('norm.bias', torch.full((48,), float('nan'))), 'not finite floating'),
    (put('student.patch_embed.proj.weight', torch.ones(48, 3, 16, 16)), 'without .*student'),
    (put('patch_embed.proj.weight', torch.ones(48, 3, 14, 14)), r'another shape: .*14, 14\) in'),
    (lambda state: [state.pop(key) for key in list(state)[3:]], 'missing'),
    (twice, 'several Vision Transformers in it, below a., b.'),
])
def test_what_does_not_fit_is_refused_and_nothing_loaded(change, message, tmp_path):
    state = dict(build().vit.state_dict())
    change(state)
    torch.save(state, tmp_path / 'vit.pth')
    vit = build(seed=7, pretrained=str(tmp_path / 'vit.pth'))
    before = {key: value.clone() for key, value in vit.state_dict().items()}
    with pytest.raises(InputError, match=message):
        vit.init_weights()
    for key, value in vit.state_dict().items():
        assert torch.equal(value, before[key])
    with pytest.raises(InputError, match='has not been read'):
        vit(torch.randn(1, 3, 64, 64))


def test_files_of_another_model_are_refused(tmp_path):
    path = write(tmp_path / 'vit.pth', build(DINOV2), 'timm')
    with pytest.raises(InputError, match='do not fit vit_small_patch16_dinov3_qkvb'):
        filled(path)


def test_a_position_table_of_another_grid(tmp_path):
    """Resized for the model's grid, and said so; the record keeps the file's own."""
    path = write(tmp_path / 'vit.pth', build(DINOV2), 'timm')
    vit = filled(path, DINOV2, img_size=84)
    assert vit.weights.modified == ('vit.pos_embed',)
    assert vit.vit.pos_embed.shape[1] == 36


@pytest.mark.parametrize('model', [DINOV3, DINOV2])
def test_prompt_only_files(model, tmp_path):
    path = write(tmp_path / 'vit.pth', build(model), 'timm')
    prompter = dict(type='LSPT', num_tokens=2)
    vit = filled(path, model, prompter=prompter)
    with torch.no_grad():
        for parameter in vit.prompter.parameters():
            parameter.add_(0.1)
    img = torch.randn(2, 3, *vit.img_size)
    want = vit(img)[0]
    state = strip_base_weights(vit.state_dict(), '', record_of(vit, path))
    assert {key.split('.')[0] for key in state} == {'prompter', 'base_record'}
    fresh = build(model, seed=9, prompter=prompter)
    fresh.load_state_dict(dict(state))
    assert torch.equal(fresh(img)[0], want) and fresh.weights.source == path
    other = write(tmp_path / 'other.pth', build(model, seed=3), 'timm')
    with pytest.raises(InputError, match='another ViT, of fingerprint'):
        build(model, prompter=prompter, pretrained=other).load_state_dict(dict(state))
    twin = model.replace('reg4_', '').replace('_qkvb', '')
    with pytest.raises(InputError, match=f'model={model}, the config says .*model={twin}'):
        build(twin, img_size=vit.img_size, prompter=prompter).load_state_dict(dict(state))


RUN = """
_base_ = './mini_seg.py'
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(
        _delete_=True, type='lspt_mm.TimmPromptedViT', model='vit_small_patch16_dinov3_qkvb',
        img_size=64, model_args=dict(depth=4, embed_dim=16, num_heads=2), pretrained={vit!r},
        out_type='featmap', out_indices=(0, 1, 2, 3), final_norm=False,
        prompter=dict(type='LSPT', num_tokens=3)))
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    def make(folder):
        write_segmentation(folder)
        small = dict(depth=4, embed_dim=16, num_heads=2)
        write(folder / 'vit3.pth', build(model_args=small), 'official')
        (folder / 'dinov3.py').write_text(RUN.format(vit=str(folder / 'vit3.pth')))
        run_ok('train.py', folder / 'dinov3.py', '--work-dir', folder / 'run',
                       '--checkpoint', 'prompts', cwd=folder)

    return once(tmp_path_factory, 'timm_run', make)


def test_a_run_of_segmentation(run):
    """Trained, tested from a prompt-only file, resumed."""
    path = (run / 'run/last_checkpoint').read_text().strip()
    state = torch.load(path, weights_only=False)['state_dict']
    assert not any(key.startswith('backbone.vit.') for key in state)
    run_ok('test.py', run / 'dinov3.py', path, '--work-dir', run / 'test', cwd=run)
    (found,) = (run / 'test').glob('*/*.json')
    lines = [json.loads(line) for line in (run / 'run/log.jsonl').read_text().splitlines()]
    value = [line['mIoU'] for line in lines if line['mode'] == 'val'][-1]
    assert json.loads(found.read_text())['mIoU'] == pytest.approx(value, abs=1e-9)
    model = init_model(run / 'dinov3.py', path, device='cpu')
    assert type(model.backbone).__name__ == 'TimmPromptedViT'


def test_a_run_that_is_resumed_ends_at_the_same_bits(run, tmp_path):
    work = tmp_path / 'work'
    work.mkdir()
    shutil.copy(run / 'run/iter_2.pth', work)
    (work / 'last_checkpoint').write_text(str(work / 'iter_2.pth'))
    run_ok('train.py', run / 'dinov3.py', '--work-dir', work, '--resume', '--checkpoint',
                   'prompts', cwd=run)
    states = [torch.load(folder / 'iter_4.pth', weights_only=False)['state_dict']
              for folder in (run / 'run', work)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    start = torch.load(work / 'iter_2.pth', weights_only=False)['state_dict']
    assert any(not torch.equal(value, states[1][key]) for key, value in start.items())
