"""From folders of images and masks to a run, for images of unusual forms."""

import numpy as np
import pytest
from miniatures import CONFIGS, ok, run_tool, write_vit
from PIL import Image

ARCH = "{'embed_dims':16,'num_layers':4,'num_heads':2,'feedforward_channels':32}"
LOADERS = [
    f'{name}_dataloader.persistent_workers=False' for name in ('train', 'val', 'test')
]


def write(folder, name, size, suffix='.jpg', **options):
    rng = np.random.default_rng(len(name))
    for kind in ('images', 'masks'):
        (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'images/{name}{suffix}', **options)
    mask = np.zeros(size, np.uint8)
    mask[: size[0] // 2] = 1
    Image.fromarray(mask).save(folder / f'masks/{name}.png')




@pytest.mark.slow
@pytest.mark.parametrize('size', [(40, 1000), (1000, 40), (24, 24)])
def test_any_form_trains_tests_and_predicts(size, tmp_path):
    for i in range(4):
        write(tmp_path, f'train/p{i}', (48, 64))
    write(tmp_path, 'train/odd', size)
    write(tmp_path, 'val/odd', size)
    vit = write_vit(tmp_path / 'vit.pth')
    ok(run_tool('dataset_converters/own_masks.py', '--images', 'images', '--masks', 'masks', '--to',
                'data', cwd=tmp_path))
    config = f'{CONFIGS / "maskfolder/transfer.py"}:data=data,pretrained={vit},arch={ARCH},crop=32'
    config += ',patch_size=8,batch_size=2,channels=8,workers=0,iters=3'
    ok(run_tool('train.py', config, '--work-dir', 'w', '--cfg-options', *LOADERS, cwd=tmp_path))
    ok(run_tool('test.py', 'w/transfer.py', 'w/iter_3.pth', cwd=tmp_path))
    ok(run_tool('predict.py', 'w/transfer.py', 'w/iter_3.pth', 'images/val', '--out', 'found',
                cwd=tmp_path))
    assert Image.open(tmp_path / 'found/masks/odd.png').size == size[::-1]


@pytest.mark.slow
@pytest.mark.parametrize('turn', [3, 6, 8])
def test_orientation_tags_of_tiff(turn, tmp_path):
    """Prepared, checked and trained on alike."""
    for i in range(3):
        write(tmp_path, f'p{i}', (48, 64), '.tif', tiffinfo={0x0112: turn})
        mask = np.asarray(Image.open(tmp_path / f'masks/p{i}.png'))
        Image.fromarray(np.rot90(mask, {3: 2, 6: -1, 8: 1}[turn]).copy()).save(
            tmp_path / f'masks/p{i}.png'
        )
    vit = write_vit(tmp_path / 'vit.pth')
    exif = ['--exif', 'shown'] if turn == 3 else []
    ok(run_tool('dataset_converters/own_masks.py', '--images', 'images', '--masks', 'masks', '--to',
                'data', *exif, cwd=tmp_path))
    config = f'{CONFIGS / "maskfolder/transfer.py"}:data=data,pretrained={vit},arch={ARCH},crop=32'
    config += ',patch_size=8,batch_size=2,channels=8,workers=0,iters=2'
    ok(run_tool('train.py', config, '--work-dir', 'w', '--cfg-options', *LOADERS, cwd=tmp_path))


@pytest.mark.slow
def test_rates_are_searched_for(tmp_path):
    """Short runs on validation, kept: a second command with another rate does that one alone."""
    for i in range(6):
        write(tmp_path, f'{"test/" if i > 3 else "train/"}p{i}', (32, 40))
    vit = write_vit(tmp_path / 'vit.pth')
    ok(run_tool('dataset_converters/own_masks.py', '--images', 'images', '--masks', 'masks', '--to',
                'data', cwd=tmp_path))
    config = f'{CONFIGS / "maskfolder/transfer.py"}:data=data,pretrained={vit},arch={ARCH},crop=32'
    config += ',patch_size=8,batch_size=2,channels=8,workers=0,iters=2,method=vpt'
    options = ['--work-dir', 's', '--seeds', '1', '--cfg-options', *LOADERS]
    run = ok(run_tool('search.py', config, '--grid', 'lr=0.01,0.001', '--select-only', *options,
                      cwd=tmp_path))
    assert 'on validation data; logistic regression on frozen features' in run.err + run.out
    run = ok(run_tool('search.py', config, '--grid', 'lr=0.01,0.001,0.1', *options, cwd=tmp_path))
    assert 'test mIoU' in run.out
    lines = (tmp_path / 's/results.csv').read_text().splitlines()
    assert lines[0] == 'phase,lr,seed,split,accuracy,baseline,prompts,backbone,head'
    assert [line.split(',')[:2] for line in lines[1:]] == [
        ['selection', '0.01'], ['selection', '0.001'], ['selection', '0.1'],
        ['final', lines[4].split(',')[1]],
    ]
    assert not (tmp_path / 's/final/seed=1/predictions.pkl').exists()
