"""Models to serve, without training: every method on one tiny ViT, both tasks, full or not."""

import time

import torch
from miniatures import write_classification, write_segmentation
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from lspt_mm.checkpoints.prompt_only import strip_base_weights
from lspt_mm.checkpoints.records import record_of
from projects.demo_app.sources import Source

METHODS = {
    'lspt': {'type': 'LSPT', 'num_tokens': 3},
    'gated': {'type': 'GatedPrompt', 'num_tokens': 2},
    'vpt': {'type': 'VPT', 'num_tokens': 4, 'deep': True},
    'none': None,
}
BIRDS = ['ant & <b>bee</b>', 'bee', 'cat']


def child_config(base, name, prompter, more=''):
    """A config with another method."""
    path = base.with_name(f'{name}.py')
    value = 'None' if prompter is None else f'dict(_delete_=True, **{prompter!r})'
    backbone = f'model = dict(backbone=dict(prompter={value}))\n'
    path.write_text(f'_base_ = {str(base)!r}\n{backbone}{more}')
    return path


def build(config, seed=0):
    """The model of a config, its ViT loaded, all else random and different from seed to seed."""
    from mmseg.registry import MODELS

    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    # init_weights() writes to the file of MMEngine's current logger: another test's may be closed.
    MMLogger.get_instance(f'served_{time.monotonic_ns()}')
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.eval()


def save(model, path, content='full', meta=None):
    state = model.state_dict()
    if content == 'prompts':
        state = strip_base_weights(state, 'backbone', record_of(model.backbone, 'somewhere.pth'))
    torch.save({'state_dict': state, 'meta': {'dataset_meta': meta or {}}}, path)
    return path


def write_sources(folder, task='seg', content='full', methods=METHODS, meta=None):
    """Config and checkpoint of every method on one ViT."""
    folder.mkdir(parents=True, exist_ok=True)
    mini = (write_segmentation if task == 'seg' else write_classification)(folder)
    sources = []
    for seed, (name, prompter) in enumerate(methods.items()):
        config = child_config(mini.config, f'{task}_{name}', prompter)
        checkpoint = save(build(config, seed), folder / f'{name}.pth', content, meta)
        sources.append(Source(f'{task} {name}', str(config), str(checkpoint)))
    return sources
