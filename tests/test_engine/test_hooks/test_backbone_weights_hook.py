"""Hooks: refusing a random ViT at every door, and the table of what is trained."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from torch import nn

from lspt_mm.engine.hooks.backbone_weights_hook import BackboneWeightsHook
from lspt_mm.engine.hooks.trainable_report_hook import TrainableReportHook, trainable_table
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT

ARCH = {'embed_dims': 8, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 16}


def segmentor(**kwargs):
    model = nn.Module()
    kwargs.setdefault('prompter', {'type': 'LSPT', 'num_tokens': 3})
    model.backbone = PromptedViT(arch=ARCH, img_size=16, patch_size=8, **kwargs)
    model.head = nn.Linear(8, 5)
    return model


class Log(list):
    def warning(self, message):
        self.append(message)

    info = warning


def runner(model):
    return SimpleNamespace(model=model, logger=Log())


DOORS = ['before_train', 'before_val', 'before_test']


@pytest.mark.parametrize('door', DOORS)
def test_a_random_vit_is_refused(door):
    with pytest.raises(InputError) as error:
        getattr(BackboneWeightsHook(), door)(runner(segmentor()))
    for part in ('backbone', 'random', '--pretrained', '--random-backbone'):
        assert part in str(error.value)


@pytest.mark.parametrize('door', DOORS)
def test_allowed_with_a_warning(door):
    run = runner(segmentor())
    getattr(BackboneWeightsHook(allow_random=True), door)(run)
    assert len(run.logger) == 1 and 'random' in run.logger[0]


@pytest.mark.parametrize('door', DOORS)
def test_a_loaded_vit_passes(door):
    model = segmentor()
    model.load_state_dict(segmentor().state_dict())
    run = runner(model)
    getattr(BackboneWeightsHook(), door)(run)
    assert run.logger == []


def test_every_vit_of_a_model_is_looked_at():
    model = nn.ModuleDict({'a': segmentor(), 'b': segmentor()})
    model['a'].load_state_dict(segmentor().state_dict())
    with pytest.raises(InputError, match='b.backbone'):
        BackboneWeightsHook().before_test(runner(model))


def test_models_without_a_prompted_vit_pass():
    BackboneWeightsHook().before_train(runner(nn.Linear(2, 2)))


def test_inside_a_wrapper():
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = segmentor()
    with pytest.raises(InputError):
        BackboneWeightsHook().before_train(runner(wrapped))
    run = runner(wrapped)
    TrainableReportHook().before_train(run)
    assert 'backbone.prompter' in run.logger[0]


def test_table_against_a_count_by_hand():
    rows = {r.split()[0]: r.split()[1:] for r in trainable_table(segmentor()).splitlines()}
    # width 8: patches 3*8*8*8+8, class token 8, positions (4+1)*8, final norm 16; a block has
    # two norms 32, qkv 8*24+24, proj 8*8+8, MLP 8*16+16 + 16*8+8.
    vit = 1544 + 8 + 40 + 16 + 2 * (32 + 216 + 72 + 144 + 136)
    # P^l for 2 blocks, and an LSTM cell: 2 matrices (4*8, 8), 2 biases 4*8.
    prompter = 2 * 3 * 8 + 2 * 256 + 2 * 32
    head = 8 * 5 + 5
    assert rows.pop('part') == ['trainable', 'all', 'share']
    assert rows == {
        'backbone': ['0', f'{vit:,}', '0.00%'],
        'backbone.prompter': [str(prompter)] * 2 + ['100.00%'],
        'head': [str(head)] * 2 + ['100.00%'],
        'all': [
            str(prompter + head),
            f'{vit + prompter + head:,}',
            f'{(prompter + head) / (vit + prompter + head):.2%}',
        ],
    }


@pytest.mark.parametrize(
    'model', [nn.Linear(2, 2), nn.Identity(), nn.ParameterList([torch.zeros(0)])], ids=str
)
def test_table_of_other_models(model):
    assert 'all' in trainable_table(model)


def test_report_reaches_the_log(tmp_path):
    logger = MMLogger('table', log_file=str(tmp_path / 'log.txt'))
    TrainableReportHook().before_train(SimpleNamespace(model=segmentor(), logger=logger))
    text = (tmp_path / 'log.txt').read_text()
    assert 'Trainable parameters:' in text and 'backbone.prompter' in text
