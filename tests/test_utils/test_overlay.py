"""Label images."""

import numpy as np
import pytest
from PIL import Image

from lspt_mm.utils.overlay import label_image, overlay


@pytest.mark.parametrize('count', [3, 256, 847])
def test_class_numbers_come_back(count, tmp_path):
    palette = np.random.default_rng(0).integers(0, 256, (count, 3))
    labels = np.array([[0, 1], [2, count - 1]])
    label_image(labels, palette).save(tmp_path / 'mask.png')
    with Image.open(tmp_path / 'mask.png') as mask:
        assert np.array_equal(np.asarray(mask), labels)
        if count <= 256:
            assert np.array_equal(np.asarray(mask.convert('RGB')), palette[labels])
    image = np.zeros((2, 2, 3), np.uint8)
    overlay(image, labels, [str(i) for i in range(count)], palette)
