"""Whatever is uploaded becomes an RGB image of 8 bits, or a message."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lspt_mm.errors import InputError
from projects.demo_app.image_io import Limits, check_limits, read_image


def noise(height=40, width=48, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def png_of(width, height):
    """A PNG of so many black pixels, in a few bytes."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

    packer = zlib.compressobj(9)
    rows = b''.join(packer.compress(bytes(1 + width)) for _ in range(min(height, 100)))
    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    data = chunk(b'IHDR', head) + chunk(b'IDAT', rows + packer.flush()) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + data


# ---- what is read -----------------------------------------------------------------------------


def test_what_was_changed_is_noted(tmp_path):
    """The pixels are those of every other tool (tests/test_utils/test_read_image.py)."""
    clear = noise(channels=4)
    clear[..., 3] = 128
    deep = np.linspace(0, 65535, 40 * 48).astype(np.uint16).reshape(40, 48)
    for pixels, notes in (
        (noise(), []), (clear, ['transparent parts on white']),
        (deep, ['more than 8 bits a channel, reduced to 8']),
    ):
        Image.fromarray(pixels).save(tmp_path / 'a.png')
        upload = read_image(tmp_path / 'a.png')
        assert (upload.notes, upload.size) == (notes, (48, 40))
        assert upload.image.shape == (40, 48, 3) and upload.image.dtype == np.uint8


def test_floats_that_are_none(tmp_path):
    Image.fromarray(np.full((40, 48), np.nan, np.float32)).save(tmp_path / 'a.tif')
    assert (read_image(tmp_path / 'a.tif').image == 0).all()


@pytest.mark.parametrize('suffix', ['gif', 'webp', 'png', 'tif'])
def test_the_first_frame(tmp_path, suffix):
    frames = [Image.new('RGB', (48, 40), colour) for colour in ('red', 'blue', 'green')]
    lossless = {'lossless': True} if suffix == 'webp' else {}
    frames[0].save(
        tmp_path / f'a.{suffix}', save_all=True, append_images=frames[1:], duration=50, **lossless
    )
    upload = read_image(tmp_path / f'a.{suffix}')
    assert (upload.image == [255, 0, 0]).all()
    assert upload.notes == ['the first of 3 frames']


def test_large_ones_are_reduced(tmp_path):
    Image.new('RGB', (300, 90), (9, 99, 199)).save(tmp_path / 'a.png')
    upload = read_image(tmp_path / 'a.png', Limits(work_side=100))
    assert upload.image.shape == (30, 100, 3) and (upload.image == [9, 99, 199]).all()
    assert upload.size == (300, 90) and upload.notes == ['reduced to 100 x 30 pixels']


# ---- what is refused --------------------------------------------------------------------------


def refused(path, *words, limits=None):
    with pytest.raises(InputError) as caught:
        read_image(path, limits)
    told = str(caught.value)
    assert path.name in told and all(word in told for word in words), told
    assert str(path.parent) not in told  # where uploads lie is nobody's business


@pytest.mark.parametrize('content', [b'These are words, not pixels.\n' * 9, b'<svg></svg>', b'\0'])
def test_not_an_image(tmp_path, content):
    (tmp_path / 'a.png').write_bytes(content)
    refused(tmp_path / 'a.png', 'not an image', 'JPEG')


def test_nothing_that_starts_other_programs(tmp_path):
    Image.fromarray(noise()).save(tmp_path / 'a.eps')
    refused(tmp_path / 'a.eps', 'not an image')


def test_empty(tmp_path):
    (tmp_path / 'a.jpg').touch()
    refused(tmp_path / 'a.jpg', 'empty')


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'bmp', 'tif', 'gif', 'webp', 'ppm'])
def test_cut_off(tmp_path, suffix):
    Image.fromarray(noise(90, 120)).save(tmp_path / f'a.{suffix}')
    content = (tmp_path / f'a.{suffix}').read_bytes()
    (tmp_path / f'a.{suffix}').write_bytes(content[: len(content) // 2])
    refused(tmp_path / f'a.{suffix}', 'damaged or was cut off', 'send it again')


def test_any_damage_is_an_image_or_a_message(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / 'a'
    for suffix in ('jpg', 'png', 'gif', 'tif', 'webp'):
        Image.fromarray(noise()).save(tmp_path / f'whole.{suffix}')
        whole = np.frombuffer((tmp_path / f'whole.{suffix}').read_bytes(), np.uint8)
        for _ in range(40):
            bad = whole.copy()
            bad[rng.integers(0, min(len(bad), 400), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(bad.tobytes())
            try:
                image = read_image(path).image
            except InputError:
                continue
            assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


@pytest.mark.parametrize('size, words', [
    ((20_000, 20_000), ['20,000 x 20,000', 'too many', '40.0 million']),  # Pillow: a bomb
    ((10_000, 9_500), ['10,000 x 9,500', 'too many']),  # Pillow: a warning
    ((20_000, 1_900), ['20,000 x 1,900', '16,000']),
    ((20_000, 100), ['20,000 x 100', '16,000']),
    ((6_000, 100), ['6,000 x 100', '16 times']),
    ((12, 100), ['12 x 100', 'too few', '16']),
    ((1, 1), ['1 x 1', 'too few']),
])
def test_sizes(tmp_path, size, words, monkeypatch):
    from PIL import PngImagePlugin

    (tmp_path / 'a.png').write_bytes(png_of(*size))
    if size[0] > 12_000 and size[1] > 12_000:
        words = ['too many']

    def load(self):
        raise AssertionError('decoded')

    monkeypatch.setattr(PngImagePlugin.PngImageFile, 'load', load)
    refused(tmp_path / 'a.png', *words)


def test_own_limit(tmp_path):
    Image.fromarray(noise()).save(tmp_path / 'a.png')
    refused(tmp_path / 'a.png', '48 x 40', '1919', limits=Limits(max_pixels=1919))
    read_image(tmp_path / 'a.png', Limits(max_pixels=1920))


@pytest.mark.parametrize('limits', [Limits(max_pixels=10), Limits(work_side=4)])
def test_limits_that_cannot_be_kept(limits):
    with pytest.raises(InputError, match='expected'):
        check_limits(limits)
