"""PromptCheckpointHook and the check that a checkpoint belongs to a model."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from lspt_mm.checkpoints.prompt_only import check_fit
from lspt_mm.checkpoints.publishing import size_table
from lspt_mm.checkpoints.records import record_of, records_in_meta, records_json
from lspt_mm.engine.hooks.prompt_checkpoint_hook import PromptCheckpointHook
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT

ARCH = {'embed_dims': 8, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 16}


class Model(nn.Module):
    def __init__(self, prompter, classes=3, **kwargs):
        super().__init__()
        self.backbone = PromptedViT(
            arch=ARCH, img_size=16, patch_size=8, prompter=prompter, **kwargs
        )
        self.head = nn.Linear(8, classes)


VPT = {'type': 'VPT', 'num_tokens': 2}
GATED = {'type': 'GatedPrompt', 'num_tokens': 2}


def checkpoint(model, with_record=True):
    meta = {}
    if with_record:
        meta['lspt_mm'] = records_json({'backbone': record_of(model.backbone, 'vit.pth')})
    return {'state_dict': model.state_dict(), 'meta': meta}


@pytest.mark.parametrize('with_record', [True, False])
@pytest.mark.parametrize(
    ('trained', 'model', 'message'),
    [
        (Model(VPT), Model({**VPT, 'num_tokens': 3}), r'(num_tokens=2|\(1, 2, 8\) in the file)'),
        (Model(VPT), Model(VPT, classes=4), r'head.weight \(3, 8\) in the file, \(4, 8\)'),
        (Model(GATED), Model(VPT), r"('GatedPrompt'|without a place.*gate_logits)"),
        (Model(VPT), Model(GATED), r"('VPT'|would be random.*gate_logits)"),
        (Model(VPT), Model(None), r'(no prompter|without a place.*prompts)'),
        (Model(None), Model(VPT), r'(no prompter|would be random.*prompts)'),
    ],
    ids=['tokens', 'classes', 'gated as vpt', 'vpt as gated', 'vpt as none', 'none as vpt'],
)
def test_misfits(trained, model, message, with_record):
    with pytest.raises(InputError, match=message):
        check_fit(model, checkpoint(trained, with_record))


@pytest.mark.parametrize(('loop', 'refused'), [({'max_epochs': 3}, True), (None, True),
                                               ('built', False)])
def test_a_checkpoint_without_a_head_is_for_training_only(loop, refused):
    model = Model(VPT)
    content = checkpoint(model)
    content['state_dict'] = {k: v for k, v in content['state_dict'].items() if 'head' not in k}
    if loop == 'built':  # training begins: other parts may start from this file
        loop = object.__new__(EpochBasedTrainLoop)
    runner = SimpleNamespace(model=model, _resume=False, _train_loop=loop)
    load = PromptCheckpointHook(by_epoch=False).after_load_checkpoint
    if refused:
        with pytest.raises(InputError, match='head.weight'):
            load(runner, content)
    else:
        load(runner, content)


def test_methods_with_the_same_tensors():
    content = checkpoint(Model(VPT))
    with pytest.raises(InputError, match='FourierPrompt'):
        check_fit(Model({'type': 'FourierPrompt', 'num_tokens': 2}), content)


def test_what_fits():
    check_fit(Model(VPT), checkpoint(Model(VPT)))
    check_fit(Model({**VPT, 'dropout': 0.5}), checkpoint(Model(VPT)), resume=True)
    # Of the ViT's own tensors others speak.
    content = checkpoint(Model(VPT))
    del content['state_dict']['backbone.cls_token']
    check_fit(Model(VPT), content)


def test_going_on_needs_the_same_tune():
    content = checkpoint(Model(VPT, tune='prompts+bias'))
    check_fit(Model(VPT), content)
    with pytest.raises(InputError, match="tune='prompts\\+bias'.*tune='prompts'"):
        check_fit(Model(VPT), content, resume=True)


def test_records_through_meta():
    record = record_of(Model(VPT).backbone, 'vit.pth')
    assert records_in_meta({'lspt_mm': records_json({'backbone': record})}) == {'backbone': record}
    assert records_in_meta({}) == {}
    for damaged in ('{', '[]', '{"backbone": {"source": 1}}', '{"backbone": 3}'):
        with pytest.raises(InputError, match='damaged'):
            records_in_meta({'lspt_mm': damaged})


def test_it_is_mmengines_hook():
    hook = PromptCheckpointHook(interval=3, by_epoch=False, max_keep_ckpts=2)
    assert isinstance(hook, CheckpointHook) and (hook.interval, hook.max_keep_ckpts) == (3, 2)
    with pytest.raises(InputError, match="content='all'"):
        PromptCheckpointHook('all')


def test_sizes_by_hand():
    state = {
        'backbone.prompter.prompts': torch.zeros(1000),
        'backbone.layers.0.weight': torch.zeros(500, dtype=torch.float64),
        'head.weight': torch.zeros(2000, dtype=torch.float16),
        'backbone.base_record': torch.zeros(99999, dtype=torch.uint8),
    }
    rows = [row.split() for row in size_table(state).split('\n')]
    assert rows == [
        ['prompts', '0.004', 'MB', '33.33%'],
        ['backbone', '0.004', 'MB', '33.33%'],
        ['head', '0.004', 'MB', '33.33%'],
        ['all', '0.012', 'MB', '100.00%'],
    ]


def test_features_taken_otherwise():
    content = checkpoint(Model(VPT, out_type='avg_tokens'))
    with pytest.raises(InputError, match='avg_tokens'):
        check_fit(Model(VPT), content)


def test_other_heads():
    content = checkpoint(Model(VPT))
    model = Model(VPT)
    for layer in model.backbone.layers:
        layer.attn.num_heads = 4
    with pytest.raises(InputError, match='num_heads=2.*num_heads=4'):
        check_fit(model, content)


def test_a_checkpoint_that_lost_a_block_is_not_gone_on_from():
    content = checkpoint(Model(VPT))
    state = content['state_dict']
    content['state_dict'] = {k: v for k, v in state.items() if '.layers.1.' not in k}
    with pytest.raises(InputError, match=r'layers\.1\.'):
        check_fit(Model(VPT), content, resume=True)
