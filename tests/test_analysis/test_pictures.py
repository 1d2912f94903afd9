"""Pictures: colours of labels, and a file with something on it."""

import numpy as np
import pytest
from PIL import Image

from lspt_mm.analysis.visualization import draw_attention
from lspt_mm.utils.overlay import colour

PALETTE = [[255, 0, 0], [0, 255, 0]]


def test_colours():
    label = np.array([[0, 1], [1, 255]])
    expected = [[[255, 0, 0], [0, 255, 0]], [[0, 255, 0], [0, 0, 0]]]
    assert colour(label, PALETTE).tolist() == expected


@pytest.mark.parametrize('blocks', [1, 3])
def test_attention_side_by_side(blocks, tmp_path):
    image = np.zeros((16, 24, 3), np.uint8)
    peak = np.zeros((2, 3))
    peak[0, 0] = 1
    rows = {'A': [peak] * blocks, 'B': [None] * blocks, 'C': [np.ones((2, 3))] * blocks}
    draw_attention(tmp_path / 'x.png', image, rows)
    with Image.open(tmp_path / 'x.png') as file:
        pixels = np.array(file.convert('RGB')).astype(int)
    rows = np.array_split(pixels, 3)
    # inferno's end over black is the brightest: all of C's maps, a corner of A's, none of B's.
    yellow = [(np.abs(row - (189, 191, 123)).max(-1) < 12).mean() for row in rows]
    assert yellow[2] > 5 * yellow[0] > 0 and yellow[1] == 0
