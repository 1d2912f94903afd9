"""More of rare classes: crops around their pixels, images that hold them."""

import json

import numpy as np
import pytest
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from PIL import Image


def test_crops_around_rare_classes():
    """Class 1 is one pixel of 64 x 96, class 2 absent; half of the crops hold the pixel."""
    labels = np.zeros((64, 96), np.uint8)
    labels[50, 7] = 1
    labels[:, 90:] = 255
    init_default_scope('mmseg')
    common = dict(type='lspt_mm.RareClassCrop', crop_size=(16, 16), pixels=[6000, 0, 9])
    np.random.seed(0)
    for share, low, high in ((1.0, 0.99, 1.0), (0.5, 0.4, 0.6), (0.0, 0.0, 0.1)):
        crop = TRANSFORMS.build(dict(common, share=share))
        found = []
        for _ in range(300):
            results = dict(img=np.zeros((64, 96, 3)), gt_seg_map=labels, seg_fields=['gt_seg_map'])
            part = crop(results)['gt_seg_map']
            assert part.shape == (16, 16)
            found.append(1 in part)
        assert low <= np.mean(found) <= high


@pytest.mark.parametrize('labels', [np.full((20, 40), 255, np.uint8), np.ones((8, 8), np.uint8)])
def test_crops_of_nothing_rare_and_of_small_images(labels):
    init_default_scope('mmseg')
    cut = dict(type='lspt_mm.RareClassCrop', crop_size=16, pixels=[5, 5], share=1)
    crop = TRANSFORMS.build(cut)
    results = dict(img=np.zeros((*labels.shape, 3)), gt_seg_map=labels, seg_fields=['gt_seg_map'])
    height, width = labels.shape
    assert crop(results)['gt_seg_map'].shape == (min(16, height), min(16, width))


def test_images_of_rare_classes_are_repeated(tmp_path):
    """Class 2 is in one image of ten: repeated by the root of .3 / .1, rounded up."""
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    pairs = {}
    for i in range(10):
        Image.new('RGB', (8, 8)).save(tmp_path / f'images/{i}.png')
        mask = np.full((8, 8), 255, np.uint8)
        mask[:4] = i % 2
        mask[0, 0] = 2 if i == 4 else mask[0, 0]
        Image.fromarray(mask).save(tmp_path / f'masks/{i}.png')
        pairs[f'{i}.png'] = f'{i}.png'
    (tmp_path / 'train.json').write_text(json.dumps(pairs))
    init_default_scope('mmseg')
    inner = dict(type='lspt_mm.MaskFolder', data_root=str(tmp_path), ann_file='train.json',
                 pipeline=[], metainfo=dict(classes=['a', 'b', 'c']))
    data = DATASETS.build(dict(type='ClassBalancedDataset', dataset=inner, oversample_thr=0.3))
    assert data.dataset.get_cat_ids(4) == [0, 2] and data.dataset.get_cat_ids(5) == [1]
    names = [data.get_data_info(i)['img_path'].split('/')[-1] for i in range(len(data))]
    assert sorted(names) == sorted([f'{i}.png' for i in range(10)] + ['4.png'])
