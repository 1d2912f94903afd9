"""Prediction by strips of rows against mmseg's own, which keeps all logits."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models import segmentors as mmsegs
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import lspt_mm  # noqa: F401
from lspt_mm.engine import iou_metric
from lspt_mm.models import segmentors
from lspt_mm.models.heads import FCNHead
from lspt_mm.models.segmentors import LogitRows, class_map, starts
from lspt_mm.registry import METRICS
from projects.benchmark.measure import peak_of_tensors

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}


def pair(test_cfg, classes=5, align=False, head='lspt_mm.FCNHead', **of_head):
    """mmseg's segmentor and ours, with the same random weights."""
    init_default_scope('mmseg')
    config = dict(
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3),
        backbone=dict(type='lspt_mm.PromptedViT', arch=ARCH, img_size=16, patch_size=8,
                      out_type='featmap', prompter=dict(type='VPT', num_tokens=2, deep=True)),
        decode_head=dict(type=head, in_channels=16, channels=8, num_convs=1, num_classes=classes,
                         in_index=0, align_corners=align, dropout_ratio=0, **of_head),
        test_cfg=ConfigDict(test_cfg),
    )
    torch.manual_seed(0)
    theirs = MODELS.build(dict(copy.deepcopy(config), type='EncoderDecoder'))
    ours = MODELS.build(dict(copy.deepcopy(config), type='lspt_mm.EncoderDecoder'))
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def samples(images, **meta):
    height, width = images.shape[2:]
    found = []
    for _ in images:
        sample = SegDataSample()
        sample.set_metainfo(dict(
            dict(ori_shape=(height, width), img_shape=(height, width), pad_shape=(height, width)),
            **meta,
        ))
        found.append(sample)
    return found


def in_whole_patches(images, meta, test_cfg):
    """Images and metainfo by which mmseg pads incomplete patches of 8, and cuts them off again."""
    sides = images.shape[2:]
    windows = zip(sides, test_cfg.get('crop_size', sides), strict=True)
    low, right = (-side % 8 if side <= crop else 0 for side, crop in windows)
    key = 'img_padding_size' if 'img_padding_size' in meta else 'padding_size'
    a, b, c, d = meta.get(key, [0] * 4)
    meta = {'ori_shape': sides, **meta, key: [a, b + right, c, d + low]}
    return torch.nn.functional.pad(images, (0, right, 0, low)), meta


def assert_same(theirs, ours, images, **meta):
    padded, of_padded = in_whole_patches(images, meta, theirs.test_cfg)
    with torch.no_grad():
        want = theirs.predict(padded, samples(padded, **of_padded))
        got = ours.predict(images, samples(images, **meta))
        sources = ours.sources(images, samples(images, **meta))
    for sample, ours_, source in zip(want, got, sources, strict=True):
        logits = sample.seg_logits.data
        whole = torch.cat([source.rows(i, min(i + 3, source.size[0]))
                           for i in range(0, source.size[0], 3)], 1)
        torch.testing.assert_close(whole, logits, rtol=1e-5, atol=1e-5)
        labels = sample.pred_sem_seg.data.long()
        top = logits.topk(min(2, len(logits)), 0).values
        sure = (top[0] - top[-1] > 1e-4) | (len(logits) == 1)
        assert torch.equal(ours_.pred_sem_seg.data.long()[0][sure], labels[0][sure])
        assert sure.float().mean() > 0.99
        assert ours_.pred_sem_seg.data.dtype == torch.uint8


SLIDE = dict(mode='slide', crop_size=(24, 32), stride=(13, 20))


@pytest.mark.parametrize(
    'meta',
    [
        {},
        {'ori_shape': (37, 101)},
        {'ori_shape': (111, 50), 'flip': True, 'flip_direction': 'horizontal'},
        {'ori_shape': (111, 50), 'flip': True, 'flip_direction': 'vertical'},
        {'padding_size': [1, 7, 2, 5], 'ori_shape': (60, 40)},
        {'img_padding_size': [0, 3, 4, 0], 'flip': True, 'flip_direction': 'vertical'},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ('test_cfg', 'size', 'align'),
    [
        (dict(mode='whole'), (40, 56), False),
        (dict(mode='whole'), (37, 51), False),
        (dict(mode='whole'), (37, 51), True),
        (SLIDE, (70, 90), False),
        (SLIDE, (24, 32), False),
        (SLIDE, (17, 90), False),
        (SLIDE, (90, 20), True),
        (dict(SLIDE, stride=(24, 32)), (49, 65), False),
        (dict(SLIDE, window_batch=3), (70, 90), True),
    ],
    ids=str,
)
def test_equals_mmsegs(test_cfg, size, align, meta):
    torch.manual_seed(1)
    assert_same(*pair(test_cfg, align=align), torch.randn(2, 3, *size), **meta)


@pytest.mark.parametrize('classes', [1, 2, 7])
def test_other_numbers_of_classes(classes):
    binary = dict(out_channels=1, threshold=0.4) if classes == 1 else {}
    theirs, ours = pair(SLIDE, max(classes, 2), **binary)
    for model in (theirs, ours) if classes == 2 else ():
        model.decode_head.conv_seg.bias.data[1] += 8  # both classes occur
    images = torch.randn(1, 3, 50, 40)
    want = theirs.predict(images, samples(images))[0].pred_sem_seg.data
    got = ours.predict(images, samples(images))[0].pred_sem_seg.data
    assert len(want.unique()) > 1
    assert (want == got).float().mean() > 0.999


def test_heads_that_do_more_than_resize(monkeypatch):
    plain = FCNHead.predict_by_feat
    monkeypatch.setattr(
        FCNHead, 'predict_by_feat', lambda self, *args: plain(self, *args) + 3, raising=False
    )
    theirs, ours = pair(SLIDE)
    images = torch.randn(1, 3, 50, 40)
    with torch.no_grad():
        want = theirs.predict(images, samples(images))[0].seg_logits.data
        got = LogitRows(ours, images[0]).rows(0, 50)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('side', [48, 45, 40, 37, 33])
@pytest.mark.parametrize(
    'test_cfg', [dict(mode='whole'), dict(mode='slide', crop_size=(44, 44), stride=(20, 20))],
    ids=['whole', 'slide'],
)
@pytest.mark.parametrize('resizes_only', [True, False])
def test_a_border_between_classes_stays_where_it_is(side, test_cfg, resizes_only, monkeypatch):
    _, ours = pair(test_cfg, classes=2)
    if not resizes_only:
        monkeypatch.setattr(ours, '_resizes_only', False)
    # In place of the head: the mean of each patch's pixels, which are -1 and 1.
    pad, pool = torch.nn.functional.pad, torch.nn.functional.avg_pool2d
    ours.extract_feat = lambda images: pool(
        pad(images[:, :1], (0, -images.shape[3] % 8, 0, -images.shape[2] % 8)), 8
    )
    ours.decode_head.forward = lambda means: torch.cat((-means, means), 1)
    images = torch.ones(1, 3, side, side)
    images[..., :24, :] = -1
    for turned in (images, images.mT):
        labels = ours.predict(turned.contiguous())[0].pred_sem_seg.data[0]
        first = (labels == 0).sum(0 if turned is images else 1)
        # It is between patches, except in a second window, which starts inside of one.
        one = test_cfg['mode'] == 'whole' or side <= 44
        assert (first - 24).abs().max() <= (0 if one else 4), first


@pytest.mark.parametrize('head', ['lspt_mm.FCNHead', 'FCNHead'])
def test_training_sees_labels_in_the_same_place(head):
    _, ours = pair(dict(mode='whole'), head=head, loss_decode=dict(
        type='CrossEntropyLoss', avg_non_ignore=True))
    torch.manual_seed(0)
    images, labels = torch.randn(2, 3, 21, 27), torch.randint(5, (2, 1, 21, 27))
    of_images, of_padded = samples(images), samples(images)
    for i, label in enumerate(labels):
        of_images[i].gt_sem_seg = PixelData(data=label)
        label = torch.nn.functional.pad(label, (0, 5, 0, 3), value=255)
        of_padded[i].gt_sem_seg = PixelData(data=label)
    want = ours.loss(torch.nn.functional.pad(images, (0, 5, 0, 3)), of_padded)
    got = ours.loss(images, of_images)
    torch.testing.assert_close(got['decode.loss_ce'], want['decode.loss_ce'])


def test_without_samples():
    theirs, ours = pair(dict(mode='whole'))
    images = torch.randn(2, 3, 24, 32)
    with torch.no_grad():
        for want, got in zip(theirs.predict(images), ours.predict(images), strict=True):
            assert torch.equal(want.pred_sem_seg.data, got.pred_sem_seg.data.long())


def augmented():
    """Scales and flips of an image of 40 x 60 pixels, as mmseg's loaders give them."""
    versions = []
    for scale, flip in ((1.0, False), (1.0, True), (1.5, False), (0.75, True)):
        size = round(40 * scale), round(60 * scale)
        torch.manual_seed(2)
        image = torch.nn.functional.interpolate(torch.rand(1, 3, 40, 60) * 99, size)[0]
        meta = dict(ori_shape=(40, 60), flip=flip, img_path='x.png')
        if flip:
            meta['flip_direction'] = 'horizontal'
            image = image.flip(2)
        sample = samples(image[None], **meta)[0]
        versions.append((image, sample))
    return dict(inputs=[[v[0]] for v in versions], data_samples=[[v[1]] for v in versions])


def test_augmented_predictions_equal_mmsegs():
    theirs, ours = pair(SLIDE)
    models = [mmsegs.SegTTAModel(theirs), segmentors.SegTTAModel(ours)]
    with torch.no_grad():
        want, got = (model.test_step(augmented())[0] for model in models)
    assert got.pred_sem_seg.data.shape == (1, 40, 60)
    same = want.pred_sem_seg.data.reshape(40, 60) == got.pred_sem_seg.data[0]
    assert same.float().mean() > 0.999
    assert got.metainfo['img_path'] == 'x.png'


def test_augmented_predictions_of_a_single_channel():
    theirs, ours = pair(SLIDE, 2, out_channels=1, threshold=0.4)
    data, shares = augmented(), []
    with torch.no_grad():
        for image, sample in zip(data['inputs'], data['data_samples'], strict=True):
            shares.append(theirs.predict(image[0][None], sample)[0].seg_logits.data)  # a sigmoid
        got = segmentors.SegTTAModel(ours).test_step(augmented())[0].pred_sem_seg.data
    want = torch.stack(shares).mean(0) > 0.4
    assert 0 < want.float().mean() < 1
    assert (want == got).float().mean() > 0.999


def test_windows_run_once_and_so_many_at_once():
    _, ours = pair(dict(SLIDE, window_batch=3))
    seen, small = [], ours.small_logits
    ours.small_logits = lambda images: seen.append(len(images)) or small(images)
    source = LogitRows(ours, torch.randn(3, 70, 90))
    class_map([source])
    tops, lefts = starts(70, 24, 13), starts(90, 32, 20)
    assert (len(tops), len(lefts)) == (5, 4)
    assert seen == [3, 1] * 5


def test_no_more_than_two_rows_of_windows_are_kept(monkeypatch):
    monkeypatch.setattr(segmentors, 'STRIP_CPU', 5 * 90 * 4)  # strips of 4 rows
    _, ours = pair(dict(SLIDE, stride=(16, 20)))
    source, kept = LogitRows(ours, torch.randn(3, 120, 90)), []
    rows = source.rows
    source.rows = lambda *at: (rows(*at), kept.append(len(source.kept)))[0]
    class_map([source])
    assert max(kept) == 2 and len(kept) == 30


def test_bytes_of_an_evaluated_image(monkeypatch):
    monkeypatch.setattr(segmentors, 'STRIP_CPU', 1 << 14)
    monkeypatch.setattr(iou_metric, 'STRIP', 1 << 12)
    sizes = [(256, 96), (512, 96)]
    windows = dict(mode='slide', crop_size=(64, 96), stride=(64, 96))
    grows = []
    for model, kind in zip(pair(windows, 150), ('mmseg', 'lspt_mm'), strict=True):
        metric = METRICS.build(dict(type=f'{kind}.IoUMetric'))
        metric.dataset_meta = {'classes': ['name'] * 150}
        peaks = []
        for size in sizes:
            (sample,) = samples(torch.empty(1, 3, *size))
            sample.gt_sem_seg = PixelData(data=torch.randint(150, (1, *size)))
            image = torch.randint(256, (3, *size), dtype=torch.uint8)

            def evaluate(model=model, metric=metric, image=image, sample=sample):
                with torch.no_grad():
                    found = model.test_step(dict(inputs=[image], data_samples=[sample]))
                metric.process({}, [one.to_dict() for one in found])

            peaks.append(peak_of_tensors(evaluate))
        grows.append((peaks[1] - peaks[0]) / (256 * 96))
    # A pixel's three channels as float32, three times: mmseg's normalisation. Afterwards once,
    # with its class (1 byte) and its true class (1). mmseg keeps two logits of each class.
    assert grows[0] > 2 * 4 * 150
    assert grows[1] <= 3 * 3 * 4


@pytest.mark.parametrize('batch', [0, 1.5, 'x'])
def test_a_wrong_number_of_windows(batch):
    with pytest.raises(ValueError, match='test_cfg.window_batch'):
        pair(dict(SLIDE, window_batch=batch))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(stride=(25, 20)), r'stride=\(25, 20\) is larger than crop_size=\(24, 32\)'),
        (dict(stride=(13, 33)), r'stride=\(13, 33\) is larger'),
        (dict(mode='silde'), "test_cfg.mode.*'silde'"),
    ],
)
def test_windows_with_gaps_and_unknown_modes_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        pair({**SLIDE, **change})


@pytest.mark.parametrize('size', [(16, 40), (40, 16)])
def test_a_resize_of_one_side_in_many_strips(size, monkeypatch):
    monkeypatch.setattr(segmentors, 'STRIP_CPU', 5 * 40 * 3)  # three rows
    theirs, ours = pair(dict(mode='whole'))
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert_same(theirs, ours, images, ori_shape=size)


def test_depths_for_layer_wise_rates_are_the_backbones():
    """As mmpretrain's constructor asks for them; the whole tree has L + 2 depths."""
    _, model = pair({'mode': 'whole'})
    names = [name for name, _ in model.named_parameters()]
    depths = {name: model.get_layer_depth(name) for name in names}
    assert {total for _, total in depths.values()} == {6}
    assert depths['backbone.cls_token'][0] == 0
    assert depths['backbone.layers.2.attn.qkv.weight'][0] == 3
    assert depths['backbone.prompter.prompts'][0] == depths['decode_head.conv_seg.weight'][0] == 5
