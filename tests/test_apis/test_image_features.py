"""lspt_mm.features: timm's own features of literally prepared images are the oracle."""

import numpy as np
import pytest
import timm
import torch
from miniatures import save_image
from PIL import Image

import lspt_mm
from lspt_mm.errors import InputError

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


@pytest.fixture(scope='module')
def vit(tmp_path_factory):
    torch.manual_seed(0)
    model = timm.create_model('vit_tiny_patch16_224', img_size=32, depth=12, num_classes=0).eval()
    path = tmp_path_factory.mktemp('vit') / 'vit.pth'
    torch.save(model.state_dict(), path)
    return model, str(path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    for i, size in enumerate([(40, 60), (70, 50), (37, 37)]):
        save_image(tmp_path / f'photos/sub/p{i}.png', *size, seed=i)
    return tmp_path / 'photos'


def literal(model, path):
    """Tokens (1 + N, D), after the final norm."""
    image = Image.open(path).convert('RGB')
    short = min(image.size)
    image = image.resize([37 * side // short for side in image.size], Image.BILINEAR)
    left, top = ((side - 32) / 2 for side in image.size)
    box = (round(left), round(top), round(left) + 32, round(top) + 32)
    array = np.asarray(image.crop(box), np.float32)
    x = torch.tensor((array - MEAN) / STD, dtype=torch.float32).permute(2, 0, 1)[None]
    with torch.no_grad():
        return model.forward_features(x)[0].numpy()


def test_features_are_timms(vit, photos):
    model, path = vit
    found = lspt_mm.features(path, photos, img_size=32, patches=True, batch_size=2)
    assert [p.name for p in found.paths] == ['p0.png', 'p1.png', 'p2.png']
    for i, image in enumerate(found.paths):
        tokens = literal(model, image)
        assert found.cls_token[i] == pytest.approx(tokens[0], abs=1e-4)
        assert found.avg_patches[i] == pytest.approx(tokens[1:].mean(0), abs=1e-4)
        assert found.patches[i].reshape(-1, 192) == pytest.approx(tokens[1:], abs=1e-4)


def test_rows_have_the_order_given(vit, photos):
    sorted_by_name = lspt_mm.features(vit[1], f'{photos}/sub/p*.png', img_size=32)
    order = [2, 0, 1]
    paths = [photos / f'sub/p{i}.png' for i in order]
    for given in (paths, map(str, paths), np.array([*map(str, paths)])):
        found = lspt_mm.features(vit[1], given, img_size=32)
        assert found.paths == paths
        assert np.array_equal(found.cls_token, sorted_by_name.cls_token[order])


def test_a_second_call_reads_them(vit, photos, monkeypatch):
    _, path = vit
    first = lspt_mm.features(path, photos, img_size=32)
    assert first.patches is None

    def fail(*_, **__):
        raise AssertionError('computed again')

    monkeypatch.setattr('lspt_mm.models.PromptedViT.forward', fail)
    again = lspt_mm.features(path, [photos], img_size=32)
    assert np.array_equal(again.cls_token, first.cls_token)
    assert isinstance(again.cls_token, np.memmap)
    save_image(photos / 'sub/p1.png', 70, 51)
    with pytest.raises(AssertionError, match='computed again'):
        lspt_mm.features(path, photos, img_size=32)


def test_errors_name_what_is_wrong(vit, photos):
    with pytest.raises(InputError, match='none.jpg: does not exist'):
        lspt_mm.features(vit[1], [photos / 'none.jpg'], img_size=32)
    with pytest.raises(ValueError, match='multiple'):
        lspt_mm.features(vit[1], photos, img_size=33)
    with pytest.raises(InputError, match='backbone: got VisionTransformer, expected timm:NAME or'):
        lspt_mm.features(vit[0], photos, img_size=32)
    with pytest.raises(InputError, match='got Tensor, expected a path'):
        lspt_mm.features(vit[1], [torch.zeros(3, 32, 32)], img_size=32)
    with pytest.raises(AttributeError, match='feature'):
        lspt_mm.feature  # noqa: B018
