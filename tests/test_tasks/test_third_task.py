"""A third task is one file: here image regression, the mean brightness of an image in words."""

import csv
import json

import numpy as np
import pytest
import torch
from miniatures import ARCH, save_image, write_vit
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.structures import BaseDataElement
from torch import nn

from lspt_mm.analysis.runs import find_run
from lspt_mm.apis import init_model, predict_images
from lspt_mm.errors import InputError
from lspt_mm.report import collect_results, numbers_of, write_page
from lspt_mm.tasks import Description, Prediction, Task, register_task, task_of
from lspt_mm.tasks.base import ClassShare

# ---- the file: model, data and the task ---------------------------------------------------------


@MODELS.register_module(force=True)
class Regressor(BaseModel):
    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(ARCH['embed_dims'], 1)

    def extract_feat(self, inputs):
        return self.backbone(inputs)[-1]

    def predict(self, inputs, data_samples):
        for sample, value in zip(data_samples, self.head(self.extract_feat(inputs)), strict=True):
            sample.value = value
        return data_samples

    def forward(self, inputs, data_samples=None, mode='tensor'):
        assert mode == 'predict'
        return self.predict(inputs, data_samples)


@TRANSFORMS.register_module(force=True)
class PackValue:
    def __call__(self, results):
        sample = BaseDataElement(metainfo={'img_path': results.get('img_path')})
        if 'truth' in results:
            sample.truth = torch.tensor([results['truth']])
        pixels = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return {'inputs': torch.from_numpy(pixels), 'data_samples': sample}


@DATASETS.register_module(force=True)
class Values:
    metainfo = {}
    ann_file, data_prefix = '', {}

    def __init__(self, data_root, pipeline, lazy_init=False):
        from mmengine.dataset import Compose

        self.pipeline = Compose(pipeline)
        self.paths = [f'{data_root}/{i}.png' for i in range(12)]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.pipeline({'img_path': self.paths[i], 'truth': float(i)})


class Regression(Task):
    """A number for an image."""

    scope, name = 'lspt_mm', 'regression'
    metric = metric_key = 'mean absolute error'
    columns = ('value',)

    def truth(self, sample):
        return sample.truth.numpy() if 'truth' in sample else None

    def prediction(self, sample):
        return Prediction(sample.value.detach().numpy())

    def counts(self, truth, predicted, num_classes):
        return np.array([1, float(np.abs(truth - predicted).sum())])

    def score(self, counts):
        return float(counts[1] / counts[0])

    def describe(self, prediction, classes, palette, top=5):
        return Description(None, [ClassShare(0, f'{float(prediction.labels[0]):.3f}')])

    def write(self, out, name, path, prediction, classes, palette, top):
        text = f'{float(prediction.labels[0]):.6f}'
        return text, [(text,)]


# ---- what a user does with it -------------------------------------------------------------------

CONFIG = """
default_scope = 'lspt_mm'
model = dict(
    type='Regressor', data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True),
    backbone=dict(
        type='lspt_mm.PromptedViT', arch={arch!r}, img_size=32, patch_size=8, pretrained={vit!r},
        prompter=dict(type='VPT', num_tokens=3)))
val_dataloader = dict(dataset=dict(type='Values', data_root={data!r}, pipeline=[
    dict(type='mmcv.LoadImageFromFile'), dict(type='PackValue')]))
"""


@pytest.fixture
def registered(monkeypatch):
    from lspt_mm.tasks import base

    monkeypatch.setattr(base, '_TASKS', dict(base._TASKS))
    register_task(Regression)


@pytest.fixture
def run(tmp_path, registered):
    """A work dir, and the model whose weights are in it."""
    for i in range(12):
        save_image(tmp_path / f'data/{i}.png', 32, 32, seed=i)
    vit = write_vit(tmp_path / 'vit.pth')
    work = tmp_path / 'run'
    work.mkdir()
    text = CONFIG.format(arch=ARCH, vit=str(vit), data=str(tmp_path / 'data'))
    (work / 'config.py').write_text(text)
    from mmengine.config import Config

    cfg = Config.fromfile(work / 'config.py')
    torch.manual_seed(0)
    model = task_of(cfg).build(cfg)
    model.backbone.init_weights()
    meta = {'iter': 3, 'epoch': 0}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, work / 'iter_3.pth')
    return work, model.eval()


@torch.no_grad()
def by_hand(model, path):
    from PIL import Image

    rgb = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float()
    return model.head(model.backbone(((rgb - 120) / 60)[None])[-1]).item()


def test_model_and_predictions(run, tmp_path):
    work, original = run
    model = init_model(work / 'config.py', work / 'iter_3.pth')
    assert model.checkpoint_meta['iter'] == 3 and model.dataset_meta['classes'] == []
    paths = [tmp_path / f'data/{i}.png' for i in range(3)]
    lines = predict_images(model, paths, tmp_path / 'found')
    with open(tmp_path / 'found/predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    for path, row, line in zip(paths, rows, lines, strict=True):
        assert row['image'] == str(path) and line == f'{path}: {row["value"]}'
        assert float(row['value']) == pytest.approx(by_hand(original, path), abs=1e-5)


@pytest.mark.slow
def test_report(run, tmp_path):
    work, original = run
    result = collect_results(find_run(work), images=12, pictures=2)
    values = [by_hand(original, tmp_path / f'data/{i}.png') for i in range(12)]
    wanted = np.mean([abs(value - i) for i, value in enumerate(values)])
    assert result.score == pytest.approx(wanted, rel=1e-5)
    json.dumps(numbers_of(result))
    write_page([result], tmp_path / 'page.html', 'val')
    page = (tmp_path / 'page.html').read_text()
    assert f'{wanted:.4g}' in page and 'mean absolute error' in page
    for i in (3, 9):  # those that are shown
        assert f'"text": "{values[i]:.3f}"' in page and f'"text": "{i:.3f}"' in page


def test_what_it_does_not_have_is_refused_in_words(run):
    cfg = find_run(run[0]).cfg
    for ask in (task_of(cfg).show, task_of(cfg).use_tta):
        with pytest.raises(InputError, match='--'):
            ask(*([cfg, 'folder'] if ask.__name__ == 'show' else [cfg]))


def test_an_unknown_scope():
    with pytest.raises(InputError, match="'mmdet', expected one of 'mmpretrain', 'mmseg'"):
        task_of({'default_scope': 'mmdet'})
