"""tools/dataset_converters/unlabelled_pool.py."""

import zipfile

import pytest
from miniatures import run_tool, save_image
from PIL import Image

SCRIPT = 'dataset_converters/unlabelled_pool.py'


@pytest.fixture
def sources(tmp_path):
    """A folder with a large image below another folder, and a zip with a small one."""
    save_image(tmp_path / 'photos' / 'a' / 'large.png', 120, 160)
    save_image(tmp_path / 'small.png', 32, 32)
    with zipfile.ZipFile(tmp_path / 'tiles.zip', 'w') as archive:
        archive.write(tmp_path / 'small.png', 'x/small.png')
        archive.writestr('x/notes.txt', 'no image')
        for name in ('x/._small.png', '__MACOSX/x/small.png'):
            archive.write(tmp_path / 'small.png', name)
    return tmp_path / 'photos', tmp_path / 'tiles.zip'


def make(tmp_path, *arguments):
    return run_tool(SCRIPT, *arguments, '--to', tmp_path / 'pool')


def test_large_images_are_cropped_and_small_ones_kept(tmp_path, sources):
    run = make(tmp_path, *sources, '--side', 48, '--crops', 5)
    assert run.code == 0, run.err
    files = sorted(p.relative_to(tmp_path / 'pool') for p in (tmp_path / 'pool').rglob('*.jpg'))
    assert [str(f) for f in files] == [
        *(f'0_photos/a_large_{k:03d}.jpg' for k in range(5)),
        '1_tiles/x_small_000.jpg',
    ]
    sizes = {f: Image.open(tmp_path / 'pool' / f).size for f in files}
    assert set(sizes.values()) == {(48, 48), (32, 32)}
    assert sizes[files[-1]] == (32, 32)


def test_the_same_seed_makes_the_same_pool(tmp_path, sources):
    def pool(name):
        assert make(tmp_path / name, sources[0], '--side', 48, '--crops', 3).code == 0
        return [p.read_bytes() for p in sorted((tmp_path / name).rglob('*.jpg'))]

    assert pool('one') == pool('two')


@pytest.mark.parametrize('source', ['empty', 'file.txt', 'absent'])
def test_bad_sources(tmp_path, source):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file.txt').write_text('no zip')
    run = make(tmp_path, tmp_path / source)
    assert run.code != 0
    assert 'error:' in run.err and source in run.err
    assert 'Traceback' not in run.err
