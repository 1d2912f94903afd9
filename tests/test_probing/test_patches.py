"""Patches as features, the heads that start from them, and runs on own masks that do so."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from miniatures import CONFIGS, once, run_ok, write_segmentation, write_vit
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image
from torch.nn import functional as F

from lspt_mm.apis import init_model
from lspt_mm.deployment import Exportable
from lspt_mm.errors import InputError
from lspt_mm.models.lora import LoRA
from lspt_mm.models.standardize import Standardize
from lspt_mm.probing import frozen_features
from lspt_mm.probing.linear import LinearFit
from lspt_mm.probing.patches import class_shares
from lspt_mm.tasks import task_of

ARCH = "{'embed_dims':16,'num_layers':4,'num_heads':2,'feedforward_channels':32}"
HEADS = {
    'linear': dict(type='lspt_mm.LinearSegHead', in_channels=[4, 4]),
    'upernet': dict(type='lspt_mm.UPerHead', in_channels=[4, 4], in_index=[0, 1], channels=6,
                    linear_in_channels=[4, 4]),
    'light': dict(type='lspt_mm.SegformerHead', in_channels=[4, 4], in_index=[0, 1], channels=6,
                  linear_in_channels=[4, 4]),
}


def fit_of(width=8, classes=3):
    random = np.random.default_rng(0)
    parts = random.normal(size=(classes, width)), random.normal(size=classes)
    return LinearFit(*parts, 20 * random.normal(size=width), 0.1 + random.random(width), 1.0, {})


def test_shares_of_classes_by_counting():
    truth = np.random.default_rng(0).choice([0, 1, 2, 255], size=(12, 8))
    found = class_shares(truth, (3, 2), (4, 4), 3)
    for row in range(3):
        for column in range(2):
            patch = truth[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert found[2 * row + column].tolist() == [(patch == k).mean() for k in range(3)]


def test_a_grid_that_reaches_beyond_the_image():
    truth = np.zeros((5, 7), np.int64)
    truth[:, 6] = 1
    found = class_shares(truth, (2, 3), (3, 3), 2)
    # Patches of 3 x 3; of the last row two thirds are inside, of the last column one.
    assert found == pytest.approx(np.array(
        [[1, 0], [1, 0], [0, 3 / 9], [6 / 9, 0], [6 / 9, 0], [0, 2 / 9]]))


def test_pixels_outside_the_grid_are_left_out():
    truth = np.zeros((5, 7), np.int64)
    truth[4:], truth[:, 4:] = 1, 1
    assert class_shares(truth, (2, 2), (2, 2), 2).tolist() == [[1, 0]] * 4


def test_standardised_maps_come_after_the_necks():
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 4, 5) * 9 + 4, torch.randn(2, 2, 4, 5) * 0.1 - 7]
    joined = torch.cat(maps, 1)
    neck = Standardize([3, 2])
    neck.start_at(joined.mean((0, 2, 3)), joined.std((0, 2, 3)))
    found = torch.cat(neck(maps), 1)
    assert found.mean((0, 2, 3)) == pytest.approx([0] * 5, abs=1e-5)
    assert found.std((0, 2, 3)) == pytest.approx([1] * 5, abs=1e-5)
    init_default_scope('mmseg')
    inner = dict(type='mmseg.MultiLevelNeck', in_channels=[3, 2], out_channels=6, scales=[1, 0.5])
    both = Standardize([3, 2], inner)
    both.start_at(neck.feature_mean, neck.feature_std)
    outs = both(maps)
    sizes = [(2, 6, 4, 5), (2, 6, 2, 2), (2, 3, 4, 5), (2, 2, 4, 5)]
    assert [tuple(out.shape) for out in outs] == sizes
    for a, b in zip(both.neck(neck(maps)), outs, strict=False):
        assert torch.equal(a, b)


@pytest.mark.parametrize('kind', HEADS)
def test_a_head_starts_at_the_fit(kind):
    init_default_scope('mmseg')
    head = MODELS.build(dict(HEADS[kind], num_classes=3, align_corners=False)).eval()
    head.init_weights()
    fit, neck = fit_of(), Standardize([4, 4])
    task_of({'default_scope': 'mmseg'}).start_at(SimpleNamespace(neck=neck, decode_head=head), fit)
    torch.manual_seed(0)
    maps = [torch.randn(2, 4, 6, 6) * 20 for _ in range(2)]
    expected = torch.tensor(fit.logits(torch.cat(maps, 1).permute(0, 2, 3, 1).numpy()))
    expected = expected.permute(0, 3, 1, 2).float()
    pyramid = [] if kind == 'linear' else [
        F.interpolate(torch.randn(2, 4, 6, 6), scale_factor=2.0), torch.randn(2, 4, 6, 6)
    ]
    found = head((*pyramid, *neck(maps)))
    expected = F.interpolate(expected, found.shape[2:], mode='bilinear', align_corners=False)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ('neck', 'head', 'starts'),
    [(True, 'linear', True), (False, 'linear', False), (True, 'upernet', True),
     (True, 'paper', False), (True, 'normed', False)],
)
def test_which_models_start_from_a_fit(neck, head, starts):
    init_default_scope('mmseg')
    cfg = dict(HEADS.get(head, HEADS['upernet']), num_classes=3, align_corners=False)
    if head == 'paper':
        del cfg['linear_in_channels']
    if head == 'normed':  # the layer does not read what the fit has read
        cfg = dict(HEADS['linear'], num_classes=3, align_corners=False, norm_cfg=dict(type='BN'))
    parts = dict(decode_head=MODELS.build(cfg), **({'neck': Standardize([4, 4])} if neck else {}))
    assert task_of({'default_scope': 'mmseg'}).starts_from_fit(SimpleNamespace(**parts)) == starts


def test_several_decode_heads_in_a_row(tmp_path):
    mini = write_segmentation(tmp_path)
    common = "channels=8, num_classes=150, norm_cfg=dict(type='BN'), align_corners=False"
    (tmp_path / 'ocr.py').write_text(
        f"_base_ = '{mini.config}'\n"
        "model = dict(_delete_=True, type='CascadeEncoderDecoder', num_stages=2,\n"
        "    data_preprocessor={{_base_.model.data_preprocessor}},\n"
        "    backbone={{_base_.model.backbone}}, test_cfg={{_base_.model.test_cfg}},\n"
        f"    decode_head=[dict(type='FCNHead', in_channels=16, in_index=-1, {common}),\n"
        "        dict(type='OCRHead', in_channels=16, in_index=-1, ocr_channels=8, "
        f"{common})])\n"
    )
    run_ok('train.py', tmp_path / 'ocr.py', '--work-dir', tmp_path / 'run', cwd=tmp_path)
    assert baseline(tmp_path / 'run')['value'] > 0
    path = next((tmp_path / 'run').glob('iter_*.pth'))
    with pytest.raises(InputError, match='models of several stages are not exported'):
        Exportable(init_model(tmp_path / 'ocr.py', path))


# ---- runs on own masks --------------------------------------------------------------------------


def write(folder, count=8, size=(40, 72)):
    """A dark square, a bright stripe; the stripe is one pixel in twenty."""
    for kind in ('images', 'masks'):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        random = np.random.default_rng(i)
        pixels = random.integers(90, 160, (*size, 3)).astype(np.uint8)
        mask = np.zeros(size, np.uint8)
        top, left = random.integers(0, 20), random.integers(0, 40)
        pixels[top : top + 16, left : left + 24], mask[top : top + 16, left : left + 24] = 10, 1
        pixels[:, -4:], mask[:, -4:] = 250, 2
        Image.fromarray(pixels).save(folder / f'images/p{i}.png')
        Image.fromarray(mask).save(folder / f'masks/p{i}.png')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """probe/: head=linear, frozen; upernet/: from the fit, with rates of 0; data/."""

    def make(folder):
        write(folder)
        vit = write_vit(folder / 'vit.pth')
        run = run_ok('dataset_converters/own_masks.py', '--images', 'images', '--masks', 'masks',
                       '--to', 'data', '--labels', 'indices', '--yes', cwd=folder)
        config = f'{CONFIGS / "maskfolder/transfer.py"}:data=data,pretrained={vit},arch={ARCH}'
        config += ',crop=32,short_side=40,patch_size=8,batch_size=2,channels=8,workers=0'
        for name, more in (
            ('probe', 'method=frozen,head=linear,balance=none'),
            ('upernet', 'iters=3,lr=0,prompt_lr=0,linear_lr=0,method=frozen'),
            ('paper', 'iters=3,lr=0,head=paper,method=vpt'),
        ):
            run = run_ok('train.py', f'{config},{more}', '--work-dir', name, '--cfg-options',
                           *(f'{part}_dataloader.persistent_workers=False'
                             for part in ('train', 'val', 'test')), cwd=folder)
            (folder / name / 'err.txt').write_text(run.out + run.err)

    return once(tmp_path_factory, 'patches', make)


def baseline(folder):
    return json.loads((folder / 'baseline.json').read_text())


def last_validation(folder):
    lines = map(json.loads, (folder / 'log.jsonl').read_text().splitlines())
    return [line for line in lines if line['mode'] == 'val'][-1]['mIoU']


def test_patches_are_those_of_the_frozen_vit(runs, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path))
    monkeypatch.chdir(runs)
    model = init_model(runs / 'probe/transfer.py', runs / 'probe/epoch_1.pth', device='cpu')
    data = model.cfg.val_dataloader.dataset
    found = frozen_features(data, model, task_of(model.cfg))
    expected = []
    init_default_scope('mmseg')
    for item in DATASETS.build(data):
        image = model.data_preprocessor(dict(inputs=[item['inputs']]), False)['inputs']
        truth = item['data_samples'].gt_sem_seg.data[0].numpy()
        for top in (0, 8):  # windows of 32 pixels in 40 x 72
            for left in (0, 20, 40):
                window = image[:, :, top : top + 32, left : left + 32]
                with torch.no_grad():
                    maps = torch.cat(model.backbone(window, prompter=False), 1)[0]
                part = truth[top : top + 32, left : left + 32]
                for i in range(4):
                    for j in range(4):
                        patch = part[8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
                        shares = [(patch == k).mean() for k in range(3)]
                        expected.append((*maps[:, i, j].tolist(), *shares))
    rows = np.concatenate((found.x, found.shares), 1)
    for one in (rows, expected := np.array(expected)):
        one[:] = one[np.lexsort(one.round(3).T)]
    assert rows == pytest.approx(expected, abs=1e-4)


def test_the_probe_is_its_baseline_and_better_than_chance(runs):
    assert baseline(runs / 'probe')['value'] == pytest.approx(
        last_validation(runs / 'probe'), abs=0.01
    )
    assert baseline(runs / 'probe')['value'] > 50  # one class alone: 28
    run_ok('test.py', 'probe/transfer.py', 'probe/epoch_1.pth', '--work-dir', 'test',
                   cwd=runs)
    (found,) = (runs / 'test').glob('*/*.json')
    assert json.loads(found.read_text())['mIoU'] == pytest.approx(
        baseline(runs / 'probe')['value'], abs=0.01
    )


def test_upernet_starts_where_patches_end(runs):
    # UPerNet enlarges logits twice, the linear head once.
    assert last_validation(runs / 'upernet') == pytest.approx(
        baseline(runs / 'upernet')['value'], abs=3
    )
    state = torch.load(runs / 'upernet/iter_3.pth', weights_only=False)['state_dict']
    assert state['decode_head.conv_seg.weight'].eq(0).all()
    assert state['decode_head.linear.weight'].ne(0).any()
    # Weights in the loss are weights in the fit.
    assert baseline(runs / 'upernet')['path'] != baseline(runs / 'probe')['path']


def test_a_run_at_random_is_told_of_its_baseline(runs):
    text = (runs / 'paper/err.txt').read_text()
    assert 'is below logistic regression on frozen features' in text
    assert 'never predicted' not in (runs / 'upernet/err.txt').read_text()


def test_a_linear_segmentor_is_exported_folded(runs, monkeypatch):
    monkeypatch.chdir(runs)
    model = init_model(runs / 'probe/transfer.py', runs / 'probe/epoch_1.pth', device='cpu')
    exported = Exportable(model)
    assert exported.model.neck.feature_std.eq(1).all() and model.neck.feature_std.ne(1).any()
    images = torch.randint(0, 256, (1, 3, 32, 32)).float()
    packed = model.data_preprocessor(dict(inputs=[images[0].flip(0)]), False)['inputs']
    theirs = F.interpolate(model.decode_head(model.extract_feat(packed)), (32, 32),
                           mode='bilinear', align_corners=False)
    assert torch.allclose(exported(images), theirs, atol=1e-3)


def test_a_stand_in_shares_the_vit_and_leaves_the_model(runs, monkeypatch):
    monkeypatch.chdir(runs)
    model = init_model(runs / 'paper/transfer.py', runs / 'paper/iter_3.pth', device='cpu')
    model.backbone.lora = torch.nn.ModuleList(LoRA(2, 16, (16, 16, 16)) for _ in range(4))
    for lora in model.backbone.lora:
        torch.nn.init.ones_(lora.up)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fit = fit_of(64)
    found = task_of(model.cfg).linear_model(model, fit)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = torch.cat(model.backbone(images, prompter=False), 1)
        logits = found.decode_head(found.extract_feat(images))
    expected = torch.tensor(fit.logits(maps.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    assert torch.allclose(logits, expected.float(), rtol=1e-3, atol=1e-2)
    assert model.backbone.prompter is not None and found.backbone.prompter is None
    assert model.backbone.lora is not None and found.backbone.lora is None
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
