"""Pictures: colours of labels, and a file with something on it."""

import numpy as np
import pytest
import torch
from PIL import Image

from lspt_mm.analysis import BlockAttention
from lspt_mm.analysis.pictures import colour, draw_segmentation

PALETTE = [[255, 0, 0], [0, 255, 0]]


def test_colours():
    label = np.array([[0, 1], [1, 255]])
    expected = [[[255, 0, 0], [0, 255, 0]], [[0, 255, 0], [0, 0, 0]]]
    assert colour(label, PALETTE).tolist() == expected


def attention(blocks, cls=True, prompts=True):
    generator = torch.Generator().manual_seed(0)
    return [
        BlockAttention(
            n,
            torch.rand(1, 2, 2, 3, generator=generator) if cls else None,
            torch.rand(1, 4, 2, 2, 3, generator=generator) if prompts else None,
        )
        for n in range(1, blocks + 1)
    ]


@pytest.mark.parametrize(
    ('maps', 'labels'),
    [(attention(4), 3), (attention(1), 3), (attention(2, cls=False), 1),
     (attention(2, prompts=False), 1), ([], 2)],
)  # fmt: skip
def test_the_picture_is_not_blank(maps, labels, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    names = {f'label {i}': np.full((16, 24), i % 2) for i in range(labels)}
    draw_segmentation(tmp_path / 'x.png', image, names, PALETTE, maps)
    with Image.open(tmp_path / 'x.png') as file:
        pixels = np.array(file.convert('RGB'))
    colours = {tuple(c) for c in pixels.reshape(-1, 3)}
    assert len(colours) > 50
    assert (255, 0, 0) in colours  # the palette's colour of class 0
    assert ((0, 255, 0) in colours) == (labels > 1)
