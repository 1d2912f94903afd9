"""Data of the small tables, arranged from folders of any layout."""

import json

import numpy as np
import pytest
from miniatures import save_image, save_label

from lspt_mm.datasets import VTAB1K
from lspt_mm.errors import InputError
from projects.small_tables import small_data, small_vit


@pytest.fixture
def lists(tmp_path, monkeypatch):
    folder = tmp_path / 'lists'
    folder.mkdir()
    (folder / 'eurosat.txt').write_text(
        'train Forest/a.jpg 0\nval River/b.jpg 1\ntest River/c.jpg 1\n'
    )
    (folder / 'flowers36.txt').write_text('train 01/x.jpg 0\nval 02/y.jpg 1\ntest 02/z.jpg 1\n')
    monkeypatch.setattr(small_data, 'LISTS', folder)
    return folder


def test_images_by_class_and_name(lists, tmp_path):
    source = tmp_path / 'eurosat'
    for name in ('some/Forest/a.jpg', 'River/b.jpg', 'other/River/c.jpg', 'other/a.jpg'):
        save_image(source / name)
    said = small_data.arrange_images('eurosat', source, tmp_path / 'data')
    assert said == 'train 1, val 1, test 1'
    root = tmp_path / 'data/vtab-1k'
    for split, label in (('train800', 0), ('val200', 1), ('test', 1), ('train800val200', 0)):
        data = VTAB1K('eurosat', split, str(root), official_counts=False, pipeline=[])
        assert data.get_data_info(0)['gt_label'] == label
    assert (root / 'eurosat/images/Forest/a.jpg').resolve() == source / 'some/Forest/a.jpg'


def test_official_names_without_classes(lists, tmp_path):
    source = tmp_path / 'flowers36'
    for name in 'xyz':
        save_image(source / f'jpg/{name}.jpg')
    small_data.arrange_images('flowers36', source, tmp_path / 'data')
    folder = tmp_path / 'data/flowers36'
    assert json.loads((folder / 'test.json').read_text()) == {'images/02/z.jpg': 1}
    assert json.loads((folder / 'about.json').read_text())['classes'] == ['01', '02']


def test_a_missing_image_is_named(lists, tmp_path):
    save_image(tmp_path / 'eurosat/Forest/a.jpg')
    with pytest.raises(InputError, match=r'2 of 3 images are missing, such as River/b\.jpg'):
        small_data.arrange_images('eurosat', tmp_path / 'eurosat', tmp_path / 'data')


def test_masks_under_our_names_of_splits(tmp_path):
    for split, count in (('train', 5), ('val', 2)):
        for i in range(count):
            save_image(tmp_path / f'drive/images/{split}/{split}{i}.jpg', 16, 16, seed=i + count)
            save_label(tmp_path / f'drive/masks/{split}/{split}{i}.png', [[0, 1] * 8] * 16)
    (tmp_path / 'drive/classes.txt').write_text('background\nvessel\n')
    small_data.arrange_masks('drive', tmp_path / 'drive', tmp_path / 'data')
    about = json.loads((tmp_path / 'data/drive/about.json').read_text())
    assert about['images'] == {'train': 4, 'val': 1, 'test': 2}


def test_lists_are_whole():
    for task, counts in {'eurosat': (800, 1200, 1000), 'cifar': (800, 200, 2000)}.items():
        listed = small_data.read_list(task)
        assert tuple(sum(x.split == s for x in listed) for s in ('train', 'val', 'test')) == counts
        assert len({x.name for x in listed}) == len(listed)


def test_the_vit_of_an_onnx_file():
    """Names that the exporter kept, matrices that it transposed and numbered out of order."""
    onnx = pytest.importorskip('onnx')
    rng = np.random.default_rng(0)
    stored = {
        'backbone.encoder.layer.0.attention.attention.query.bias': rng.random(4, np.float32),
        'decoder.final_conv.weight': rng.random(4, np.float32),
        'onnx::Concat_1': rng.random((1, 1, 4), np.float32),
        'onnx::Reshape_2': rng.random((1, 9, 4), np.float32),
        'onnx::MatMul_3': rng.random((4, 8), np.float32),
    }
    nodes = [
        ('Reshape', '/backbone/embeddings/Reshape_1', ['onnx::Reshape_2', 'shape']),
        ('MatMul', '/backbone/encoder/layer.0/mlp/fc1/MatMul', ['x', 'onnx::MatMul_3']),
        ('Concat', '/backbone/embeddings/Concat_6', ['onnx::Concat_1', 'patches']),
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, inputs, [name], name) for kind, name, inputs in nodes],
        'vit', [], [], [onnx.numpy_helper.from_array(x, name) for name, x in stored.items()],
    )
    found = small_vit.tensors_of(onnx.helper.make_model(graph))
    bias, _, first, patches, weight = (x.astype(np.float16) for x in stored.values())
    want = {
        'encoder.layer.0.attention.attention.query.bias': bias,
        'encoder.layer.0.mlp.fc1.weight': weight.T,
        'embeddings.position_embeddings': np.concatenate([first, patches], axis=1),
    }
    assert found.keys() == want.keys()
    assert all(np.array_equal(found[name], x) for name, x in want.items())
