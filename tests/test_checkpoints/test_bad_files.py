"""Files that cannot be loaded are refused by name, and nothing of them is."""

import os

import numpy as np
import pytest
import torch
from miniatures import ARCH, tiny_vit
from safetensors.torch import save_file

from lspt_mm.checkpoints import load_backbone, read_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT


def vit(**kwargs):
    return PromptedViT(**{'arch': ARCH, 'img_size': 32, 'patch_size': 8, **kwargs})


def refused(model, path, *named):
    """Raises InputError with ``named`` in it, and leaves the model as it is."""
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_backbone(model, str(path))
    for part in (path.name, *named):
        assert part in str(error.value)
    assert model.weights.source is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    return str(error.value)


@pytest.fixture
def state():
    return tiny_vit().state_dict()


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('cls_token', 'cls_token'),
        ('pos_embed', 'pos_embed'),
        ('norm.bias', 'ln1.bias'),
        ('blocks.3.attn.qkv.weight', 'layers.3.attn.qkv.weight'),
        ('patch_embed.proj.bias', 'patch_embed.projection.bias'),
    ],
)
def test_a_missing_tensor(theirs, ours, state, tmp_path):
    del state[theirs]
    torch.save({'model': state}, tmp_path / 'vit.pth')
    refused(vit(), tmp_path / 'vit.pth', 'missing: ', ours)


def test_another_width(tmp_path):
    torch.save(tiny_vit().state_dict(), tmp_path / 'vit.pth')
    arch = dict(ARCH, embed_dims=32, feedforward_channels=64)
    refused(vit(arch=arch), tmp_path / 'vit.pth', '16', '32', 'arch')


@pytest.mark.parametrize('depth', [2, 6])
def test_another_depth(depth, tmp_path):
    torch.save(tiny_vit(depth=depth).state_dict(), tmp_path / 'vit.pth')
    where = 'layers.4' if depth > 4 else 'layers.2'
    refused(vit(), tmp_path / 'vit.pth', where, 'depth')


@pytest.mark.parametrize(('patch', 'img_size'), [(4, 16), (16, 64), (16, 32), (4, 32)])
def test_another_patch_size(patch, img_size, tmp_path):
    torch.save(tiny_vit(patch=patch, img_size=img_size).state_dict(), tmp_path / 'vit.pth')
    message = refused(vit(), tmp_path / 'vit.pth', 'patch_size')
    assert 'arch' not in message


def test_a_missing_file(tmp_path):
    refused(vit(), tmp_path / 'typo.pth', 'no such')


def test_a_folder(tmp_path):
    (tmp_path / 'folder').mkdir()
    refused(vit(), tmp_path / 'folder')


@pytest.mark.parametrize('share', [0.0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors', 'npz'])
def test_a_torn_file(kind, share, state, tmp_path):
    path = tmp_path / f'torn.{kind}'
    if kind == 'npz':
        np.savez(path, **state)
    elif kind == 'safetensors':
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == 'zip')
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(vit(), path)


def test_a_text_file(tmp_path):
    (tmp_path / 'vit.pth').write_text('<html>404 not found</html>')
    refused(vit(), tmp_path / 'vit.pth')


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
def test_a_file_that_would_run_a_command(legacy, state, tmp_path):
    content = {'model': state, 'args': Attack(tmp_path / 'executed')}
    torch.save(content, tmp_path / 'evil.pth', _use_new_zipfile_serialization=not legacy)
    refused(vit(), tmp_path / 'evil.pth', 'system')
    assert not (tmp_path / 'executed').exists()


class Getter:
    """``getattr`` is let through for mmengine's log histories: it must not reach further."""

    def __reduce__(self):
        return getattr, (torch.nn.Module, 'load_state_dict')


class Deeper:
    def __reduce__(self):
        from mmengine.logging.history_buffer import HistoryBuffer

        return getattr, (HistoryBuffer, '__init__')


@pytest.mark.parametrize('payload', [Getter, Deeper])
def test_getattr_reaches_nothing_else(payload, state, tmp_path):
    torch.save({'model': state, 'args': payload()}, tmp_path / 'evil.pth')
    refused(vit(), tmp_path / 'evil.pth')


def test_no_vit_in_it(tmp_path):
    torch.save({'fc.weight': torch.zeros(2), 'fc.bias': torch.zeros(2)}, tmp_path / 'fc.pth')
    refused(vit(), tmp_path / 'fc.pth', 'fc.weight')


def test_prompts_only(tmp_path):
    model = vit(prompter={'type': 'LSPT', 'num_tokens': 2})
    state = {k: v for k, v in model.state_dict().items() if k.startswith('prompter.')}
    torch.save({'state_dict': state}, tmp_path / 'prompts.pth')
    refused(vit(), tmp_path / 'prompts.pth', 'prompter.')


@pytest.mark.parametrize('content', [{}, {'model': {}}, {'model': None}, {'state_dict': [1]}])
def test_empty_dicts(content, tmp_path):
    torch.save(content, tmp_path / 'empty.pth')
    refused(vit(), tmp_path / 'empty.pth')


@pytest.mark.parametrize('content', [[1, 2], torch.zeros(3), 'text', None], ids=str)
def test_something_else_than_a_dict(content, tmp_path):
    torch.save(content, tmp_path / 'other.pth')
    refused(vit(), tmp_path / 'other.pth', type(content).__name__)


def test_keys_that_are_no_strings(tmp_path):
    torch.save({1: torch.zeros(2)}, tmp_path / 'other.pth')
    refused(vit(), tmp_path / 'other.pth')


def test_tensors_that_are_no_tensors(state, tmp_path):
    torch.save(dict(state, cls_token=1.0), tmp_path / 'vit.pth')
    refused(vit(), tmp_path / 'vit.pth', 'cls_token')


def test_a_failed_load_after_a_good_one_changes_nothing(state, tmp_path):
    torch.save(state, tmp_path / 'good.pth')
    model = vit()
    load_backbone(model, str(tmp_path / 'good.pth'))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError):
        load_backbone(model, str(tmp_path / 'typo.pth'))
    assert model.weights.source == str(tmp_path / 'good.pth')
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# ---- what mmengine writes ---------------------------------------------------------------------


def test_training_checkpoint_of_mmengine(tmp_path):
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer(log_history=[1.0, 2.0], count_history=[1, 1])
    model = vit()
    torch.save(
        {
            'meta': {'iter': np.int64(3), 'epoch': 0, 'seed': 0},
            'state_dict': {f'backbone.{k}': v for k, v in model.state_dict().items()},
            'message_hub': {
                'log_scalars': {
                    'train/loss': history,
                    'train/lr': HistoryBuffer([np.float64(1)], [1]),
                },
                'runtime_info': {'iter': 3, 'loss': np.float32(2), 'best': np.float64(1)},
                'resumed_keys': {},
            },
        },
        tmp_path / 'iter_3.pth',
    )
    content = read_checkpoint(str(tmp_path / 'iter_3.pth'))
    assert content['meta']['iter'] == 3
    assert content['message_hub']['log_scalars']['train/loss'].data[0].tolist() == [1.0, 2.0]
    other = vit()
    load_backbone(other, str(tmp_path / 'iter_3.pth'))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
