"""One call: the run of the config path, and one object for what comes after it."""

import json
import shutil

import numpy as np
import pytest
import torch
from filelock import FileLock
from miniatures import ARCH, run_ok, write_vit
from mmengine.config import Config
from PIL import Image

import lspt_mm
from lspt_mm.apis import Results, init_model, predict_image, training
from lspt_mm.apis.predict import image_pipeline, predict_images
from lspt_mm.errors import InputError
from lspt_mm.report import summary

OPTIONS = {
    'arch': ARCH, 'patch_size': 8, 'crop': 32, 'iters': 4, 'batch_size': 2, 'channels': 8,
    'workers': 0, 'default_hooks.logger.interval': 2,
}


def write_photos(folder, count=8):
    """Discs on noise, and masks of them."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :56]
    for name in ('photos', 'masks'):
        (folder / name).mkdir()
    for i in range(count):
        disc = (rows - 10 - 2 * i) ** 2 + (columns - 20) ** 2 < 80
        image = random.integers(0, 90, (40, 56, 3)) + 150 * disc[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / f'photos/p{i}.png')
        Image.fromarray(disc.astype(np.uint8)).save(folder / f'masks/p{i}.png')
    (folder / 'classes.txt').write_text('sea\nmoon\n')
    write_vit(folder / 'vit.pth')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('one_call')
    write_photos(folder)
    return folder


@pytest.fixture(scope='module')
def trained(folder):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the tools that are run here: sums are rounded alike
    yield lspt_mm.train_segmentation(
        folder / 'photos', folder / 'masks', folder / 'run', classes=folder / 'classes.txt',
        backbone=str(folder / 'vit.pth'), method='vpt', options=OPTIONS, seed=3,
    )
    torch.set_num_threads(threads)


def test_it_is_the_run_of_the_config_path(folder, trained):
    run_ok('dataset_converters/own_masks.py', '--images', folder / 'photos', '--masks',
                   folder / 'masks', '--classes', folder / 'classes.txt', '--to', folder / 'data',
                   '--seed', 3)
    recipe = {name: value for name, value in OPTIONS.items() if '.' not in name}
    arguments = ','.join(f'{name}={value}'.replace(' ', '') for name, value in recipe.items())
    config = (f'maskfolder/transfer.py:data={folder}/data,pretrained={folder}/vit.pth,method=vpt,'
              f'seed=3,{arguments}')
    run_ok('train.py', config, '--work-dir', folder / 'other', '--checkpoint', 'prompts',
                   '--cfg-options', 'default_hooks.logger.interval=2')
    states = [torch.load(place / 'iter_4.pth', weights_only=False)['state_dict']
              for place in (folder / 'run', folder / 'other')]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_metrics_are_those_of_the_validation(folder, trained):
    found = trained.metrics
    assert (found['metric'], list(found['classes'])) == ('mIoU', ['sea', 'moon'])
    lines = [json.loads(line) for line in (folder / 'run/log.jsonl').read_text().splitlines()]
    logged = [line['mIoU'] for line in lines if line['mode'] == 'val'][-1]
    assert found['value'] == pytest.approx(logged, abs=0.01)
    assert np.mean(list(found['classes'].values())) == pytest.approx(logged, abs=0.01)


def test_predictions_of_whatever_is_given(folder, trained, tmp_path):
    path = folder / 'photos/p1.png'
    model = init_model(trained.config, trained.checkpoint)
    want = predict_image(model, image_pipeline(model.cfg)(str(path))).labels
    array = np.asarray(Image.open(path))
    for image in (path, str(path), array, Image.open(path)):
        assert np.array_equal(trained.predict(image).labels, want)
    clear = Image.open(path).convert('RGBA')  # as a file with transparent pixels is read: on white
    clear.putalpha(Image.linear_gradient('L').resize(clear.size))
    clear.save(tmp_path / 'clear.png')
    turned = tmp_path / 'turned.jpg'
    exif = Image.Exif()
    exif[0x112] = 3
    Image.open(path).save(turned, exif=exif)
    for other in (tmp_path / 'clear.png', turned):
        one, two = (trained.predict(image).labels for image in (other, Image.open(other)))
        assert np.array_equal(one, two) and not np.array_equal(one, want)
    for images, count in ((folder / 'photos', 8), (f'{folder}/photos/p[12].png', 2),
                          ([path, array], 2), ((one for one in (path, array)), 2), ({path}, 1),
                          (np.array([str(path)] * 2), 2), ((folder / 'photos').glob('p1.*'), 1)):
        found = trained.predict(images)
        assert isinstance(found, Results)
        assert len(found) == count and any(np.array_equal(one.labels, want) for one in found)
    shares = trained.predict(path).shares
    assert sum(shares.values()) == pytest.approx(1) and list(shares) == sorted(
        shares, key=shares.get, reverse=True
    )


def test_pictures(folder, trained, tmp_path, monkeypatch):
    result = trained.predict(folder / 'photos/p1.png')
    result.save(tmp_path / 'new/photo.png')
    result.save_mask(tmp_path / 'mask.png')
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'mask.png')), result.labels)
    assert Image.open(tmp_path / 'new/photo.png').size[0] >= 56
    trained.predict(folder / 'photos').save(tmp_path / 'all')
    assert sorted(p.name for p in (tmp_path / 'all').iterdir())[:2] == ['p0.jpg', 'p1.jpg']
    with pytest.raises(InputError, match='ends in .png'):
        result.save_mask(tmp_path / 'mask.jpg')
    for path in (tmp_path / 'photo', '/proc/photo.png'):
        with pytest.raises(InputError, match=f'{path}: cannot be written .*, .png or .jpg'):
            result.save(path)
    monkeypatch.setenv('HOME', str(tmp_path))
    result.save('~/home/a.png')
    result.save_mask('~/home/b.png')
    assert len(list((tmp_path / 'home').iterdir())) == 2
    assert repr(result).startswith("ImageResult('p1', 56 x 40, sea 0.") and len(repr(result)) < 99


def test_from_disk_and_by_the_command(folder, trained, tmp_path):
    again = lspt_mm.load(folder / 'run')
    path = folder / 'photos/p2.png'
    assert np.array_equal(again.predict(path).labels, trained.predict(path).labels)
    assert again.classes == ['sea', 'moon'] and again.metrics == trained.metrics
    run_ok('predict.py', folder / 'run', path, '--out', tmp_path / 'found')
    mask = np.asarray(Image.open(tmp_path / 'found/masks/p2.png'))
    assert np.array_equal(mask, again.predict(path).labels)


@pytest.mark.parametrize(('images', 'message'), [
    ('absent.jpg', 'absent.jpg'), ('*.nothing', 'no file matches'), ([], 'none given'),
    (np.zeros((4, 4)), r'float64 \(4, 4\): expected uint8 .*np.stack.*; scale it to 0..255'),
    (torch.zeros(3, 4, 4), r'a torch tensor of torch.float32 \(3, 4, 4\): .*numpy.*0..255'),
    (3, 'int, expected a path'), ({'a': 'p1.png'}, 'got dict, expected a path'),
    ([b'a.jpg'], 'bytes, expected a path'),
])
def test_what_is_no_image(trained, images, message):
    with pytest.raises(InputError, match=message):
        trained.predict(images)


@pytest.mark.parametrize(('more', 'message'), [
    (dict(method='LSPT'), "method='LSPT': did you mean lspt"),
    (dict(method='?'), r"method='\?': known: frozen, .*, auto$"),
    (dict(head='x'), "head='x': expected one of 'linear'"),
    (dict(backbone='nope.pth', options={'crop': 56}), "backbone='nope.pth': no such file; exp"),
    (dict(backbone='vit_small_patch14_dinov2.lvd142m'), 'did you mean timm:vit_small_patch14_dino'),
    (dict(backbone=3), 'backbone: int, expected'),
    (dict(options={'iterations': 3}), "no argument 'iterations'; did you mean iters"),
    (dict(options={'iters': 'x'}), "iters='x': expected an integer"),
    (dict(options={'crop': 33}), 'crop=33: expected a multiple of the patch size 8'),
    (dict(method='auto', options={'num_tokens': 3}), 'num_tokens=3: method=lora has no prompts'),
    (dict(options={'data': 'x'}), 'data is an argument of its own'),
    (dict(options={'head': 'light'}), 'head is an argument of its own'),
    (dict(options='iters=100'), "options='iters=100': expected a dict"),
    (dict(amp='bf16', resume='p'), "amp='bf16': expected True or False\nresume='p': expected True"),
    (dict(val_share='0.2'), "val_share='0.2': expected a number from 0 to below 1"),
    (dict(classes={'sea': 0}), 'classes: dict, expected a path'),
    (dict(ignore=None, mask_suffix=None), "ignore=None: expected .*\nmask_suffix=None: exp"),
    (dict(ignore=(0, 0, 0)), r"ignore=\(0, 0, 0\): expected a number, a colour such as '#000000'"),
    (dict(ignore=[(255, 0, 0)]), r"ignore=\[\(255, 0, 0\)\]: expected a number, a colour"),
    (dict(labels='colours'), "labels='colours': expected one of None, 'indices', 'colors', 'bin"),
    (dict(exif='turned', image_suffix=1), "exif='turned': expected one of .*\nimage_suffix=1: exp"),
    (dict(out='/proc/x'), 'out=/proc/x cannot be written'),
    (dict(out=__file__), f'out={__file__} cannot be written: .*File exists'),
])
def test_what_is_refused_before_the_data_are_read(folder, tmp_path, monkeypatch, more, message):
    monkeypatch.setattr(training, 'prepare_masks', None)
    given = dict(images=folder / 'photos', masks=folder / 'masks', out=tmp_path / 'run',
                 backbone=str(folder / 'vit.pth'), options={})
    given.update(more)
    if isinstance(given['options'], dict):
        given['options'] = {'arch': ARCH, **given['options']}
    with pytest.raises(InputError, match=message):
        lspt_mm.train_segmentation(**given)
    assert not (tmp_path / 'run').exists()


def test_folders_that_do_not_exist(folder, tmp_path):
    with pytest.raises(InputError, match='^masks nowhere: no such folder'):
        lspt_mm.train_segmentation(folder / 'photos', 'nowhere', tmp_path / 'run',
                                   backbone=folder / 'vit.pth', options={'arch': ARCH})


def test_a_folder_with_a_run_is_kept(folder, trained, tmp_path):
    shutil.copytree(folder / 'run', tmp_path / 'begun/auto/lspt', symlinks=True)
    for out in (folder / 'run', tmp_path / 'begun'):
        with pytest.raises(InputError, match=rf'{out} has a run \(.*iter_4.pth\); resume=True'):
            lspt_mm.train_segmentation('nowhere', 'nowhere', out, backbone=folder / 'vit.pth',
                                       options=OPTIONS)


def test_a_run_is_not_resumed_on_other_images(folder, trained, tmp_path):
    for name in ('photos', 'masks', 'run'):
        shutil.copytree(folder / name, tmp_path / name, symlinks=True)
        if name != 'run':
            shutil.copy(tmp_path / f'{name}/p0.png', tmp_path / f'{name}/p8.png')
    before = {path: path.read_bytes() for path in (tmp_path / 'run').rglob('*.*') if path.is_file()}

    def resume(photos=folder / 'photos', **options):
        return lspt_mm.train_segmentation(
            photos, tmp_path / 'masks', tmp_path / 'run', method='vpt', seed=3,
            classes=['sea', 'moon'], backbone=folder / 'vit.pth', resume=True,
            options={**OPTIONS, **options},
        )

    with pytest.raises(InputError, match='differ from those of the run, such as .*p8.png'):
        resume(tmp_path / 'photos')
    (tmp_path / 'masks/p8.png').unlink()
    mask = Image.open(tmp_path / 'masks/p2.png')
    mask.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / 'masks/p2.png')
    with pytest.raises(InputError, match='data/masks: masks differ .* such as p2.png; keep masks'):
        resume()
    mask.save(tmp_path / 'masks/p2.png')
    with pytest.raises(InputError, match='train_dataloader.batch_size is 2 there, 4 here'):
        resume(batch_size=4)
    after = {path: path.read_bytes() for path in before}
    assert after == before
    assert resume().metrics == trained.metrics


def test_data_of_a_run_at_work_stay(folder, tmp_path):
    """A second call before the first one's first checkpoint, with another split."""
    def train(seed):
        return lspt_mm.train_segmentation(
            folder / 'photos', folder / 'masks', tmp_path / 'run', method='vpt', seed=seed,
            backbone=folder / 'vit.pth', options=OPTIONS,
        )

    def data():
        return {path: path.read_bytes() for path in (tmp_path / 'run').rglob('*.*')
                if path.is_file() and path.name != '.lock'}

    training.prepare_masks(folder / 'photos', folder / 'masks', tmp_path / 'run/data', seed=0)
    before = data()
    with FileLock(tmp_path / 'run/.lock'), pytest.raises(InputError, match='another run is at'):
        train(7)
    assert before and data() == before
    train(7)
    assert data().keys() > before.keys() and data() != before


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match='expected one config in it'):
        lspt_mm.load(tmp_path)
    with pytest.raises(InputError, match='None: expected the work dir of a run'):
        lspt_mm.load(None)


def test_a_checkpoint_that_is_chosen(folder, trained, tmp_path):
    other = tmp_path / 'other.pth'
    shutil.copy(trained.checkpoint, other)
    run = lspt_mm.load(folder / 'run', checkpoint=other)
    assert run.checkpoint == str(other) and run.classes == trained.classes
    assert lspt_mm.load(folder / 'run', checkpoint='iter_4.pth').checkpoint == trained.checkpoint
    with pytest.raises(InputError, match='iter_9.pth: no such checkpoint .*run: .*iter_4.pth'):
        lspt_mm.load(folder / 'run', checkpoint='iter_9.pth')


@pytest.mark.slow
def test_the_command(folder, trained, tmp_path):
    options = [f'{name}={value}'.replace(' ', '') for name, value in OPTIONS.items()]
    run = run_ok('segment.py', '--images', folder / 'photos', '--masks', folder / 'masks',
                   '--classes', folder / 'classes.txt', '--out', tmp_path / 'run', '--seed', 3,
                   '--method', 'vpt', '--backbone', folder / 'vit.pth', '--options', *options)
    assert 'moon' in run.out and 'lspt_mm predict' in run.out
    state, mine = (torch.load(place / 'iter_4.pth', weights_only=False)['state_dict']
                   for place in (folder / 'run', tmp_path / 'run'))
    assert all(torch.equal(value, mine[name]) for name, value in state.items())


def test_numbers_of_numpy(folder, trained, tmp_path):
    run = lspt_mm.train_segmentation(
        folder / 'photos', folder / 'masks', tmp_path / 'run', classes=folder / 'classes.txt',
        backbone=str(folder / 'vit.pth'), method='vpt', seed=np.int64(3), ignore=np.int64(2),
        options={**OPTIONS, 'iters': np.int32(4), 'batch_size': np.int64(2), 'num_tokens':
                 np.int64(10), 'lr': np.float64(3e-3), 'val_dataloader.batch_size': np.int64(1)},
    )
    prompter = lspt_mm.load(run.folder).model.cfg.model.backbone.prompter  # as the file has it
    assert type(prompter.num_tokens) is int and run.metrics['iter'] == 4


def test_a_relative_folder_and_a_vit_as_a_path(folder, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    run = lspt_mm.load('run', pretrained=folder / 'vit.pth', checkpoint='run/iter_4.pth')
    monkeypatch.chdir(tmp_path)
    photo = folder / 'photos/p1.png'
    assert np.array_equal(run.predict(photo).labels, trained.predict(photo).labels)
    assert run.metrics == trained.metrics


def test_export(trained, tmp_path):
    pytest.importorskip('onnx')
    assert trained.export(tmp_path / 'moon.onnx', size=32) < 1e-4
    assert (tmp_path / 'moon.onnx').stat().st_size > 0


def test_the_test_is_that_of_the_tool(folder, tmp_path):
    run = lspt_mm.train_segmentation(
        folder / 'photos', folder / 'masks', tmp_path / 'run', classes=folder / 'classes.txt',
        backbone=str(folder / 'vit.pth'), method='vpt', test_share=0.25, options=OPTIONS,
    )
    found = run.test()
    run_ok('test.py', run.config, run.checkpoint, '--work-dir', tmp_path / 'test')
    (metrics,) = (tmp_path / 'test').glob('*/*.json')
    assert found['value'] == pytest.approx(json.loads(metrics.read_text())['mIoU'], abs=0.01)
    assert found['classes'].keys() == {'sea', 'moon'}
    shutil.move(run.folder, tmp_path / 'moved')  # with its data
    moved = lspt_mm.load(tmp_path / 'moved')
    assert moved.test() == found
    with pytest.raises(InputError, match='folder nowhere, the data .* does not exist'):
        moved.test(data_root='nowhere')


def test_a_run_without_test_images_says_so(trained):
    with pytest.raises(InputError, match='its data have no test images; see Run.metrics'):
        trained.test()


def test_all_of_the_vit(folder, tmp_path):
    run = lspt_mm.train_segmentation(
        folder / 'photos', folder / 'masks', tmp_path / 'run', classes=folder / 'classes.txt',
        backbone=str(folder / 'vit.pth'), method='full', head='linear', options=OPTIONS,
    )
    before = torch.load(folder / 'vit.pth', weights_only=False)['model']['blocks.0.attn.qkv.weight']
    assert not torch.equal(run.model.backbone.state_dict()['layers.0.attn.qkv.weight'], before)


def test_auto_goes_on_with_the_best_on_validation(folder, tmp_path):
    options = {**OPTIONS, 'iters': 8, 'batch_size': 4}
    run = lspt_mm.train_segmentation(
        folder / 'photos', folder / 'masks', tmp_path / 'run', method='auto', head='linear',
        backbone=str(folder / 'vit.pth'), options=options,
    )
    found = json.loads((tmp_path / 'run/auto/methods.json').read_text())
    assert list(found['scores']) == list(training.CANDIDATES)
    assert found['scores'][found['method']] == max(found['scores'].values())
    for name, score in found['scores'].items():
        short = lspt_mm.load(tmp_path / 'run/auto' / name)
        assert short.metrics['value'] == score and short.metrics['iter'] == 2
    direct = lspt_mm.train_segmentation(
        folder / 'photos', folder / 'masks', tmp_path / 'direct', method=found['method'],
        head='linear', backbone=str(folder / 'vit.pth'), options=options,
    )
    assert run.metrics == direct.metrics


def test_auto_tries_methods_on_half_of_the_images(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(training, '_LEAST', 6)
    monkeypatch.setattr(training, 'CANDIDATES', ('frozen', 'bias'))
    lspt_mm.train_segmentation(
        folder / 'photos', folder / 'masks', tmp_path / 'run', method='auto', head='light',
        backbone=str(folder / 'vit.pth'), options={**OPTIONS, 'iters': 4},
    )
    configs = {name: Config.fromfile(tmp_path / f'run/{name}/transfer.py')
               for name in ('.', 'auto/frozen', 'auto/bias')}
    chosen = {name: cfg.train_dataloader.dataset.get('indices') for name, cfg in configs.items()}
    assert chosen == {'.': None, 'auto/frozen': [0, 2, 4], 'auto/bias': [0, 2, 4]}


def test_images_of_one_name_in_two_folders(folder, trained, tmp_path):
    for name in ('one', 'other'):
        shutil.copytree(folder / 'photos', tmp_path / name)
    both = [tmp_path / 'one/p0.png', tmp_path / 'other/p0.png', np.zeros((40, 40, 3), np.uint8)]
    found = trained.predict(both)
    assert len({result.name for result in found}) == 3
    found.save(tmp_path / 'out')
    assert len(list((tmp_path / 'out').iterdir())) == 3
    assert len({one.name for one in trained.predict([tmp_path / 'one', tmp_path / 'other'])}) == 16


def test_predict_images_takes_paths_as_text(folder, trained, tmp_path):
    for images, count in (([f'{folder}/photos/p0.png'], 1), (f'{folder}/photos', 8),
                          (f'{folder}/photos/p[12].png', 2)):
        assert len(predict_images(trained.model, images, f'{tmp_path}/found')) == count
        assert len(list((tmp_path / 'found/masks').iterdir())) == count
        shutil.rmtree(tmp_path / 'found')
    with pytest.raises(InputError, match='/proc/found cannot be written'):
        predict_images(trained.model, f'{folder}/photos', '/proc/found')


def test_scores_are_printed_without_a_report(trained, monkeypatch, capsys):
    def fail(*given):
        raise InputError('block 1 of this ViT is a single module')

    monkeypatch.setattr(summary, 'collect_results', fail)
    summary.train_and_summarize(lambda **given: trained, dict(options=[], debug=False))
    out = capsys.readouterr().out
    assert f'mIoU {trained.metrics["value"]:.2f}' in out and 'predict' in out
    assert 'no report: block 1 of this ViT' in out


def test_a_second_try_after_an_error(folder, tmp_path):
    def train(images, classes=('sea', 'moon'), **options):
        return lspt_mm.train_segmentation(
            tmp_path / images, folder / 'masks', tmp_path / 'run', method='vpt', classes=classes,
            backbone=str(folder / 'vit.pth'), options={**OPTIONS, **options},
        )

    for name in ('wrong', 'photos'):
        shutil.copytree(folder / 'photos', tmp_path / name)
    errors = []  # an interactive shell keeps the last one, and its frames
    for options in ({'train_dataloader.batch_size': 'x'}, {'optim_wrapper.optimizer.lr': -1}):
        with pytest.raises(InputError) as error:
            train('wrong', ['moon', 'sea'], **options)
        errors.append(error)
    assert list(train('photos').metrics['classes']) == ['sea', 'moon']
