"""All tools see the same pixels of an image, whatever form it has."""

import io

import numpy as np
import pytest
import torch
from miniatures import run_ok, write_segmentation
from mmcv.transforms import LoadImageFromFile
from PIL import Image, ImageOps

from lspt_mm.apis import init_model
from lspt_mm.apis.predict import image_pipeline
from lspt_mm.config.load import read_config_file
from lspt_mm.datasets.transforms import LoadImage
from lspt_mm.errors import InputError
from lspt_mm.utils.images import BACKEND, describe_image, read_image, to_rgb
from projects.demo_app.image_io import read_image as read_upload

HEIGHT, WIDTH = 40, 56


def noise(channels=3, seed=0, high=256):
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    kind = np.uint16 if high > 256 else np.uint8
    return np.random.default_rng(seed).integers(0, high, shape, kind)


def smooth():
    """What JPEG keeps."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([4 * x, 6 * y, 2 * (x + y)], -1).astype(np.uint8)


def save_exif(path, turn, **options):
    image = Image.fromarray(smooth())
    data = image.getexif()
    data[0x0112] = turn
    image.save(path, exif=data, **options)
    data = image.getexif()
    data[0x0112] = turn
    return np.asarray(ImageOps.exif_transpose(image))


def on_white(rgba):
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def jpeg(path):
    Image.fromarray(smooth()).save(path, quality=98)
    return smooth()


def grey(path):
    Image.fromarray(noise(1)).save(path)
    return noise(1)[..., None].repeat(3, -1)


def png_16(path):
    values = noise(1, high=65536)
    Image.fromarray(values).save(path)
    return (values >> 8)[..., None].repeat(3, -1)


def dark_16(path, turn=1):
    """No value above 200 of 65,535."""
    values = noise(1, high=65536) % 201
    image = Image.fromarray(values)
    data = image.getexif()
    data[0x0112] = turn
    image.save(path, exif=data) if turn > 1 else image.save(path)
    if turn == 6:  # the first row is the right side
        values = np.rot90(values, -1)
    return (values >> 8)[..., None].repeat(3, -1)


def transparent_16(path):
    values = noise(1, high=65536)
    values[:5] = 777
    Image.fromarray(values).save(path, transparency=777)
    return np.where(values == 777, 255, values >> 8)[..., None].repeat(3, -1)


def png_16_colours(path):
    import cv2

    values = noise(3, high=65536)
    cv2.imwrite(str(path), values[..., ::-1])
    return values >> 8


def rgba(path):
    values = noise(4)
    Image.fromarray(values).save(path)
    return on_white(values)


def webp(path):
    values = noise(4)
    Image.fromarray(values).save(path, lossless=True, exact=True)
    return on_white(values)


def grey_alpha(path):
    values = noise(2)
    Image.fromarray(values, 'LA').save(path)
    return on_white(values[..., [0, 0, 0, 1]])


def palette_alpha(path):
    image = Image.fromarray(noise(1, high=3), 'P')
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(path, transparency=1)
    table = np.array([[10, 20, 30], [255, 255, 255], [70, 80, 90]])
    return table[np.asarray(image)]


def cmyk(path):
    values = np.dstack([255 - smooth(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    Image.fromarray(values, 'CMYK').save(path, quality=98)
    return smooth()


def fractions(path):
    values = np.linspace(-3, 5, HEIGHT * WIDTH).astype(np.float32).reshape(HEIGHT, WIDTH)
    Image.fromarray(values).save(path)
    return ((values + 3) / 8 * 255)[..., None].repeat(3, -1)


def pages(path):
    first, second = Image.fromarray(noise()), Image.fromarray(noise(seed=1))
    first.save(path, save_all=True, append_images=[second])
    return noise()


FORMS = {
    'a.jpg': jpeg, 'a.png': png_16, 'b.png': png_16_colours, 'c.png': rgba, 'd.png': grey_alpha,
    'e.png': palette_alpha, 'a.gif': palette_alpha, 'b.jpg': cmyk, 'a.tif': cmyk,
    'b.tif': fractions, 'c.tif': pages, 'a.webp': webp, 'f.png': grey,
    'g.png': dark_16, 'd.tif': dark_16, 'a.pgm': dark_16, 'h.png': transparent_16,
    **{f'dark.{end}': (lambda path: dark_16(path, 6)) for end in ('png', 'tif')},
    **{f'turn{n}.jpg': (lambda path, n=n: save_exif(path, n, quality=98)) for n in range(2, 9)},
    **{f'turn{n}.tif': (lambda path, n=n: save_exif(path, n)) for n in range(2, 9)},
    **{f'turn{n}.png': (lambda path, n=n: save_exif(path, n)) for n in (3, 6)},
}


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    mini = write_segmentation(folder)
    run_ok('train.py', mini.config, '--work-dir', folder / 'w', cwd=folder)
    return image_pipeline(init_model(str(mini.config), str(folder / 'w/iter_4.pth')).cfg)


@pytest.mark.parametrize('name', FORMS)
def test_all_see_the_same(name, pipeline, tmp_path):
    path = tmp_path / name
    expected = FORMS[name](path)
    found = read_image(path)
    tolerance = 12 if path.suffix == '.jpg' else 1
    assert found.shape == expected.shape
    assert np.abs(found - expected.astype(float)).max() <= tolerance
    trained = LoadImage()({'img_path': str(path)})['img'][..., ::-1]
    tested = LoadImageFromFile(backend_args={'backend': BACKEND})({'img_path': str(path)})['img']
    predicted = pipeline(path)['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
    # From a path, Pillow 12.3 mixes up the rows of turned TIFF files that are not compressed.
    opened = to_rgb(Image.open(io.BytesIO(path.read_bytes())))
    tolerance = 3 if path.suffix == '.jpg' else 0  # two decoders
    assert np.abs(opened - found.astype(int)).max() <= tolerance
    for seen in (trained, tested[..., ::-1], read_upload(path).image, predicted):
        assert np.array_equal(seen, found)


HEAD = """from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import PackSegInputs
default_scope = 'mmseg'
test_pipeline = [dict(type=%s), dict(type=%s)]
"""


@pytest.mark.parametrize(('load', 'pack'), [
    ("'LoadImageFromFile'", "'PackSegInputs'"), ("'mmcv.LoadImageFromFile'", "'PackSegInputs'"),
    ('LoadImageFromFile', 'PackSegInputs'),
])
def test_configs_may_name_the_loader_in_every_way(load, pack, tmp_path):
    head = HEAD if "'" not in load else HEAD[HEAD.index('default_scope'):]
    (tmp_path / 'config.py').write_text(head % (load, pack))
    cfg = read_config_file(tmp_path / 'config.py')
    expected = rgba(tmp_path / 'a.png')
    found = image_pipeline(cfg)(tmp_path / 'a.png')['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize('bits', [8, 16])
def test_bits_of_a_channel(bits, tmp_path):
    for i, form in enumerate([png_16, png_16_colours] if bits == 16 else [rgba, grey_alpha]):
        form(tmp_path / f'{i}.png')
        with Image.open(tmp_path / f'{i}.png') as image:
            assert describe_image(image).bits == bits


def test_more_pixels_than_pillow_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    from lspt_mm.utils.cli import input_errors_as_messages

    Image.fromarray(noise()).save(tmp_path / 'a.png')
    with input_errors_as_messages():
        assert torch.from_numpy(read_image(tmp_path / 'a.png').copy()).sum() > 0


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'bmp', 'tif', 'ppm', 'webp'])
def test_a_truncated_file_is_named_as_such(suffix, tmp_path):
    path = tmp_path / f'a.{suffix}'
    Image.fromarray(noise()).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match='cannot be read as an image') as error:
        read_image(path)
    assert 'NoneType' not in str(error.value)


def test_a_codec_that_opencv_lacks(tmp_path):
    Image.fromarray(noise()).save(tmp_path / 'a.tif', compression='zstd')
    assert np.array_equal(read_image(tmp_path / 'a.tif'), noise())
