"""apis.init_model: what it reads, and what the model carries; classes; the order of channels."""

import json
import pickle
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from miniatures import (
    ROOT,
    run_command,
    run_ok,
    save_image,
    tiny_vit,
    write_classification,
    write_segmentation,
)
from mmengine.model import ImgDataPreprocessor
from mmpretrain.models import ClsDataPreprocessor
from mmseg.models import SegDataPreProcessor
from PIL import Image
from torch import nn

from lspt_mm.apis import init_model
from lspt_mm.checkpoints.prompt_only import strip_base_weights
from lspt_mm.checkpoints.records import record_of
from lspt_mm.config.load import read_config
from lspt_mm.errors import InputError
from lspt_mm.tasks import takes_rgb, task_of


def model_of(count, trained_on=None, where='head'):
    model = nn.Module()
    head = nn.Module()
    if count is not None:
        head.num_classes = count
    setattr(model, where, head)
    model.dataset_meta = trained_on
    return model


@pytest.mark.parametrize(
    ('where', 'scope'), [('head', 'mmpretrain'), ('decode_head', 'mmseg')]
)
def test_classes_are_those_given_then_those_trained_on_then_numbers(where, scope):
    class_names = task_of({'default_scope': scope}).class_names
    model = model_of(2, {'classes': ('x', 'y')}, where)
    assert class_names(model, ['a', 'b']) == ['a', 'b']
    assert class_names(model) == class_names(model, []) == ['x', 'y']
    assert class_names(model, ['a', 'b', 'c']) == ['x', 'y']  # of another data set
    assert class_names(model_of(2, None, where), ['a']) == ['class 0', 'class 1']
    assert class_names(model_of(None, {'classes': [1, 2, 3]}, where)) == ['1', '2', '3']


@pytest.mark.parametrize(
    ('preprocessor', 'key'),
    [
        (ImgDataPreprocessor, 'bgr_to_rgb'),
        (SegDataPreProcessor, 'bgr_to_rgb'),
        (ClsDataPreprocessor, 'to_rgb'),
    ],
)
def test_who_turns_bgr_to_rgb(preprocessor, key):
    norm = dict(mean=[1, 2, 3], std=[1, 1, 1])
    assert takes_rgb(preprocessor(**norm, **{key: True}))
    assert not takes_rgb(preprocessor(**norm))
    # As the flag says: the first channel comes out last.
    if preprocessor is ImgDataPreprocessor:
        bgr = torch.zeros(3, 4, 4)
        bgr[0] = 9
        found = preprocessor(mean=[0] * 3, std=[1] * 3, bgr_to_rgb=True)({'inputs': [bgr]})
        assert found['inputs'][0][2].eq(9).all()


# ---- init_model -------------------------------------------------------------------------------


@pytest.fixture(params=['seg', 'cls'])
def made(request, tmp_path):
    """Config, the model, and its full and prompt-only checkpoints."""
    write = write_segmentation if request.param == 'seg' else write_classification
    mini = write(tmp_path)
    cfg = read_config(str(mini.config))
    torch.manual_seed(0)
    model = task_of(cfg).build(cfg)
    model.backbone.init_weights()
    state = model.state_dict()
    small = strip_base_weights(state, 'backbone', record_of(model.backbone, str(mini.vit)))
    count = task_of(cfg).head(model).num_classes
    meta = {'iter': 7, 'epoch': 1, 'dataset_meta': {'classes': [f'c{i}' for i in range(count)]}}
    for name, content in (('full', state), ('prompts', small)):
        torch.save({'state_dict': content, 'meta': meta}, tmp_path / f'{name}.pth')
    return mini, model.eval(), tmp_path


@pytest.fixture
def reads(monkeypatch):
    """How often each file is read by torch.load."""
    counts = Counter()
    load = torch.load

    def counted(file, *args, **kwargs):
        counts[str(getattr(file, 'name', file)).rsplit('/', 1)[-1]] += 1
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, 'load', counted)
    return counts


@pytest.mark.parametrize('content', ['full', 'prompts'])
def test_the_model_and_each_file_read_once(content, made, reads):
    mini, original, folder = made
    model = init_model(mini.config, folder / f'{content}.pth', device='cpu')
    want = {'full.pth': 1} if content == 'full' else {'prompts.pth': 1, 'tiny_vit.pth': 1}
    assert reads == want
    assert not model.training
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert model.cfg.model.backbone.pretrained == str(mini.vit)
    assert model.dataset_meta['classes'][:2] == ['c0', 'c1']
    assert len(model.dataset_meta['palette']) == len(model.dataset_meta['classes'])
    assert model.checkpoint_meta['iter'] == 7 and model.random_backbone is False


def test_a_config_stays_as_it_is(made, tmp_path):
    mini, _, folder = made
    cfg = read_config(str(mini.config))
    before = cfg.pretty_text
    torch.save({'model': tiny_vit().state_dict()}, folder / 'same.pth')
    options = {'model.backbone.with_cp': True}
    model = init_model(cfg, folder / 'prompts.pth', str(folder / 'same.pth'), 'cpu', options)
    assert cfg.pretty_text == before
    assert model.cfg.model.backbone.pretrained == str(folder / 'same.pth')
    assert model.backbone.with_cp is True
    with pytest.raises(InputError, match='with_pc'):
        init_model(cfg, folder / 'full.pth', cfg_options={'model.backbone.with_pc': True})


def test_parts_that_lack_are_refused(made):
    mini, _, folder = made
    content = torch.load(folder / 'full.pth')
    for key, words in (
        ('backbone.layers.1.ln1.bias', 'lacks'), ('backbone.prompter.prompts', 'missing')
    ):
        state = {k: v for k, v in content['state_dict'].items() if k != key}
        torch.save({'state_dict': state, 'meta': content['meta']}, folder / 'torn.pth')
        with pytest.raises(InputError, match=f'torn.pth: .*{words}.*{key}'):
            init_model(mini.config, folder / 'torn.pth')


def test_names_of_wrappers_are_taken_off(made):
    mini, original, folder = made
    content = torch.load(folder / 'full.pth')
    state = {f'module.{k}': v for k, v in content['state_dict'].items()}
    torch.save({'state_dict': state}, folder / 'wrapped.pth')
    model = init_model(mini.config, folder / 'wrapped.pth', device='cpu')
    assert all(torch.equal(model.state_dict()[k], v) for k, v in original.state_dict().items())
    assert model.dataset_meta['classes'][0] == 'class 0' and model.checkpoint_meta == {}


def test_what_the_test_tool_reads(made):
    """The checkpoint once, in a process of its own; EMA's weights are those tested."""
    mini, _, folder = made
    (folder / 'counted.py').write_text(COUNTED)
    text = mini.config.read_text()
    (folder / 'ema.py').write_text(text + "\ncustom_hooks = [dict(type='EMAHook')]\n")
    content = torch.load(folder / 'full.pth')
    classifies = 'head.fc.bias' in content['state_dict']
    bias = 'head.fc.bias' if classifies else 'decode_head.conv_seg.bias'
    # EMAHook saves its averages as state_dict, and puts them into a copy of the model to test.
    other = {f'module.{k}': v.clone() for k, v in content['state_dict'].items()}
    content['state_dict'][bias][:] = torch.eye(len(content['state_dict'][bias]))[2] * 1e4
    torch.save({**content, 'ema_state_dict': other}, folder / 'ema.pth')
    for config, checkpoint, reads in (
        (folder / 'ema.py', 'ema.pth', {'ema.pth': 1}),
        (mini.config, 'prompts.pth', {'prompts.pth': 1, 'tiny_vit.pth': 1}),
    ):
        run_ok(folder / 'counted.py', config, folder / checkpoint, '--out', 'out.pkl',
                       cwd=folder)
        assert json.loads((folder / 'counts.json').read_text()) == reads
        if checkpoint == 'ema.pth':
            found = (
                {int(one['pred_label']) for one in pickle.loads((folder / 'out.pkl').read_bytes())}
                if classifies else  # a folder of label images, which mmseg counts from 1
                {int(n) for path in (folder / 'out.pkl').iterdir()
                 for n in np.unique(Image.open(path))}
            )
            assert found == ({2} if classifies else {3})


#: tools/test.py, counting what torch.load reads.
COUNTED = f"""
import atexit, json, runpy, torch
from collections import Counter
counts, load = Counter(), torch.load
def counted(file, *args, **kwargs):
    counts[str(getattr(file, 'name', file)).rsplit('/', 1)[-1]] += 1
    return load(file, *args, **kwargs)
torch.load = counted
try:
    runpy.run_path({str(ROOT / 'tools/test.py')!r}, run_name='__main__')
finally:
    open('counts.json', 'w').write(json.dumps(counts))
"""


WITHOUT_MMSEG = """
import sys
sys.modules['mmseg'] = None
import lspt_mm
from pathlib import Path
from lspt_mm.apis import init_model, predict_images
from lspt_mm.deployment import Exportable
config, checkpoint, photo = sys.argv[1:]
model = init_model(config, checkpoint)
(line,) = predict_images(model, [Path(photo)], Path('found'))
from mmpretrain.apis import ImageClassificationInferencer
(found,) = ImageClassificationInferencer(config, checkpoint)(photo)
assert f"photo.png: {found['pred_class']} {found['pred_score']:.3f}" in line
Exportable(model)
import lspt_mm.search.worker
"""


@pytest.mark.slow
@pytest.mark.parametrize('made', ['cls'], indirect=True)
def test_classification_needs_no_mmseg(made):
    mini, _, folder = made
    save_image(folder / 'photo.png', 40, 56)
    run = run_command(sys.executable, '-c', WITHOUT_MMSEG, mini.config, folder / 'prompts.pth',
                      folder / 'photo.png', cwd=folder, PYTHONPATH=str(ROOT))
    assert run.code == 0, run.err[-3000:]
