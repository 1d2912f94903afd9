"""Files with mutated bytes are read, or refused by an InputError: no other error, no hang."""

import io
import json
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from fuzzing import many
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_safetensors

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.datasets import LoadSegLabels
from lspt_mm.datasets.image_list import read_json_list, read_text_list
from lspt_mm.engine.hooks.jsonl_logger_hook import LOG, read_log
from lspt_mm.engine.work_dir import read_training_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.utils.images import check_image

SECONDS = 20


@st.composite
def mutated(draw, whole):
    """Bytes of ``whole`` with some changed, left out, put in or said twice; or something else."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(['change', 'flip', 'cut', 'insert', 'drop', 'repeat', 'end']))
        if kind == 'change':
            content[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
        elif kind == 'flip' and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 'cut':
            del content[at:]
        elif kind == 'insert':
            content[at:at] = draw(st.binary(max_size=20))
        elif kind == 'drop':
            del content[at : at + draw(st.integers(1, 50))]
        elif kind == 'repeat':
            content[at:at] = content[at : at + draw(st.integers(1, 200))]
        else:
            content += draw(st.binary(max_size=50))
    return bytes(content)


@contextmanager
def in_time():
    """A hang is a failure."""

    def over(number, frame):
        raise AssertionError(f'has not come back in {SECONDS} seconds')

    former = signal.signal(signal.SIGALRM, over)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def read_or_refused(path, content, reader):
    path.write_bytes(content)
    with in_time():
        try:
            return reader(path)
        except InputError as error:
            assert path.name in str(error) or str(path) in str(error), str(error)


def saved(legacy=False):
    file = io.BytesIO()
    content = {
        'state_dict': {'a.weight': torch.arange(6.0).reshape(2, 3), 'b': torch.ones(3).half()},
        'meta': {'iter': 3, 'epoch': 0, 'words': ['x', 1.5, None, True]},
    }
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def arrays():
    file = io.BytesIO()
    np.savez(file, weight=np.arange(6.0).reshape(2, 3), names=np.array(['a', 'b']))
    return file.getvalue()


CHECKPOINTS = {
    'vit.pth': saved(), 'old.pth': saved(legacy=True), 'vit.npz': arrays(),
    'vit.safetensors': save_safetensors({'a': torch.arange(6.0)}, {'meta': '{"x": 1}'}),
}


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_checkpoints(name, tmp_path):
    @many(150)
    @given(mutated(CHECKPOINTS[name]))
    def some(content):
        found = read_or_refused(tmp_path / name, content, read_checkpoint_of)
        assert found is None or isinstance(found, dict)

    some()


def read_checkpoint_of(path):
    return read_checkpoint(str(path))


def test_training_checkpoints(tmp_path):
    @many(100)
    @given(mutated(CHECKPOINTS['vit.pth']))
    def some(content):
        found = read_or_refused(tmp_path / 'iter_3.pth', content, read_training_checkpoint)
        if found is not None:  # what is taken is what was written
            assert found['state_dict']['a.weight'].tolist() == [[0, 1, 2], [3, 4, 5]]

    some()


def test_split_files(tmp_path):
    pairs = {f'images/{i}.jpg': i % 3 for i in range(5)}
    lines = ''.join(f'{name} {label}\n' for name, label in pairs.items()).encode()

    @many(200)
    @given(mutated(lines), mutated(json.dumps(pairs).encode()))
    def some(text, table):
        for name, content, reader in (
            ('train.txt', text, read_text_list), ('train.json', table, read_json_list)
        ):
            found = read_or_refused(tmp_path / name, content, reader)
            for path, label in found or ():
                assert isinstance(path, str) and isinstance(label, int)

    some()


def image_bytes(kind, mode):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 5, (24, 32), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'BMP', 'TIFF', 'WEBP'])
def test_images(kind, tmp_path):
    @many(100)
    @given(mutated(image_bytes(kind, 'RGB')))
    def some(content):
        found = read_or_refused(tmp_path / 'image', content, check_image)
        assert found is None or min(found) > 0

    some()


@pytest.mark.parametrize('mode', ['L', 'P', '1'])
def test_labels(mode, tmp_path):
    load = LoadSegLabels(num_classes=5)

    def read(path):
        return load({
            'seg_map_path': str(path), 'img_path': 'image.jpg', 'ori_shape': (24, 32),
            'reduce_zero_label': False, 'label_map': None, 'seg_fields': [],
        })

    @many(150)
    @given(mutated(image_bytes('PNG', mode)))
    def some(content):
        found = read_or_refused(tmp_path / 'label.png', content, read)
        if found is not None:
            values = np.unique(found['gt_seg_map'])
            assert found['gt_seg_map'].shape == (24, 32)
            assert set(values.tolist()) <= {0, 1, 2, 3, 4, 255}

    some()


def test_a_label_that_a_longer_search_found(tmp_path):
    """A PNG with a header of no length, of which PIL says ValueError."""
    whole = image_bytes('PNG', 'L')
    content = whole.replace(b'\0\0\0\x0dIHDR', b'\0\0\0\0IHDR')
    assert content != whole
    (tmp_path / 'label.png').write_bytes(content)
    with pytest.raises(InputError, match=r'label.png: cannot be read as a label image'):
        LoadSegLabels(num_classes=5).transform(
            {'seg_map_path': str(tmp_path / 'label.png'), 'img_path': 'image.jpg'}
        )


def test_logs(tmp_path):
    lines = ''.join(json.dumps({'mode': 'train', 'iter': i, 'loss': 0.5}) + '\n' for i in range(4))

    @many(100)
    @given(mutated(lines.encode()))
    def some(content):
        (tmp_path / LOG).write_bytes(content)
        assert len(list(read_log(tmp_path))) <= 6 + content.count(b'\n')

    some()
