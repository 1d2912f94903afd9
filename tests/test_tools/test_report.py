"""tools/report.py on runs that took seconds: one page, and what it says."""

import base64
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from miniatures import once, refused, run_ok, run_tool, write_classification, write_segmentation
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image
from served_miniatures import build, child_config

from lspt_mm.analysis.runs import config_key, differences, find_run, find_runs
from lspt_mm.config.preflight import training_images
from lspt_mm.errors import InputError
from lspt_mm.report import (
    Picture,
    by_image,
    collect,
    collect_results,
    numbers_of,
    write_page,
)
from lspt_mm.tasks import Prediction, task_of

METHODS = {
    'lspt': {},
    'gated': {'type': 'GatedPrompt', 'num_tokens': 3, '_delete_': True},
    'deep': {'type': 'VPT', 'num_tokens': 4, 'deep': True, '_delete_': True},
}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Runs of three methods and none, and one of a classification."""

    def make(folder):
        (folder / 'cls').mkdir()
        mini = write_segmentation(folder)
        text = mini.config.read_text()
        for name in (*METHODS, 'none'):
            child = folder / f'{name}.py'
            prompter = METHODS.get(name)
            more = f"model['backbone'].update(prompter={prompter!r})\n" if prompter != {} else ''
            child.write_text(text + more)
            run_ok('train.py', child, '--work-dir', folder / 'runs' / name, cwd=folder)
        run_ok('test.py', folder / 'lspt.py', folder / 'runs/lspt/iter_4.pth', '--work-dir',
               folder / 'runs/lspt/test', cwd=folder)
        mini = write_classification(folder / 'cls')
        run_ok('train.py', mini.config, '--work-dir', folder / 'runs/cls', cwd=folder)

    return once(tmp_path_factory, 'report_runs', make) / 'runs'






def data_of(page):
    (text,) = re.findall(r'id="viewer-data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


# ---- finding runs -----------------------------------------------------------------------------


def test_a_run_and_what_it_holds(runs):
    run = find_run(runs / 'lspt')
    assert run.name == 'lspt' and run.task.name == 'segmentation' and run.iterations == 4
    assert run.checkpoint == runs / 'lspt/iter_4.pth'
    assert [x for x, _ in run.curves['loss']] == [4]
    ((where, metrics),) = run.tests.items()
    assert where == 'test' and metrics['mIoU'] >= 0
    assert find_run(runs / 'cls').task.name == 'classification'


def test_a_vit_without_class_token_whose_first_blocks_have_no_prompts(tmp_path):
    mini = write_segmentation(tmp_path)
    cfg = Config.fromfile(mini.config)
    vit = torch.load(cfg.model.backbone.pretrained)['model']
    vit['pos_embed'] = vit['pos_embed'][:, 1:]
    del vit['cls_token']
    torch.save({'model': vit}, tmp_path / 'no_class.pth')
    config = child_config(
        mini.config, 'late', {'type': 'LSPT', 'num_tokens': 3, 'start_block': 2},
        f"model['backbone'].update(with_cls_token=False, pretrained='{tmp_path}/no_class.pth')\n",
    )
    model = build(config)
    model.cfg = cfg = Config.fromfile(config)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    run = SimpleNamespace(task=task_of(cfg), folder=tmp_path)
    found = collect.Collector(model, run, dataset, [])
    found.add(0)
    blocks = found.placed['prompts']
    assert blocks and 1 not in blocks and not found.placed['cls']
    assert all(np.isfinite(one.overlap) for of_block in blocks.values() for one in of_block)
    assert found.features


def test_a_run_that_was_moved(runs, tmp_path):
    moved = tmp_path / 'elsewhere'
    shutil.copytree(runs / 'deep', moved)
    (moved / 'last_checkpoint').write_text('/gone/iter_4.pth')
    assert find_run(moved).checkpoint == moved / 'iter_4.pth'
    (moved / 'last_checkpoint').write_text(str(moved / 'iter_2.pth'))
    assert find_run(moved).checkpoint == moved / 'iter_2.pth'
    (moved / 'last_checkpoint').unlink()
    assert find_run(moved).checkpoint == moved / 'iter_4.pth'
    shutil.copy(moved / 'deep.py', moved / 'other.py')
    with pytest.raises(InputError, match='deep.py, other.py'):
        find_run(moved)


@pytest.mark.parametrize(
    ('gone', 'word'), [('*.py', 'no .py file'), ('*.pth', 'no checkpoint'), ('', 'no such folder')]
)
def test_folders_that_are_no_runs(gone, word, runs, tmp_path):
    broken = tmp_path / 'broken'
    if gone:
        shutil.copytree(runs / 'deep', broken)
        for path in broken.glob(gone):
            path.unlink()
        (broken / 'last_checkpoint').unlink()
    with pytest.raises(InputError, match=word):
        find_run(broken)


def test_names(runs, tmp_path):
    shutil.copytree(runs / 'deep', tmp_path / 'deep')
    found = find_runs([f'A={runs / "lspt"}', str(runs / 'deep'), str(tmp_path / 'deep')])
    assert found[0].name == 'A' and len({run.name for run in found}) == 3
    assert all(run.name.endswith('deep') for run in found[1:])
    shutil.copytree(runs / 'deep', tmp_path / 'lr=0.1')  # as the search tool names folders
    found = find_runs([str(tmp_path / 'lr=0.1'), f'B={tmp_path / "lr=0.1"}/../deep'])
    assert [run.name for run in found] == ['lr=0.1', 'B']
    for wrong, word in (
        (['A={0}', 'A={1}'], "'A' is given twice"),
        (['={0}'], 'empty name'),
        (['{0}', '{0}'], 'a run is given twice'),
    ):
        with pytest.raises(InputError, match=word):
            find_runs([text.format(runs / 'lspt', runs / 'deep') for text in wrong])


def test_differences_are_of_the_method_alone(runs):
    found = find_runs([str(runs / name) for name in ('lspt', 'deep', 'none')])
    different = differences(found)
    assert different['model.backbone.prompter.type'] == ['LSPT', 'VPT', None]
    assert different['model.backbone.prompter.num_tokens'] == [3, 4, None]
    assert all(key.startswith('model.backbone.prompter') for key in different)
    keys = tuple(different)
    assert len({config_key(run, keys) for run in found}) == 1
    assert len({config_key(run) for run in found}) == 3


# ---- the plain ViT's features -----------------------------------------------------------------


def test_burstiness_is_the_plain_vits_or_left_out(runs, monkeypatch):
    seen = []

    def burstiness(vit, *given):
        seen.append(vit)
        raise ValueError('queries and keys pass a norm')

    monkeypatch.setattr(collect, 'burstiness', burstiness)
    found = collect_results(find_run(runs / 'none'), 'val', images=2, pictures=0)
    assert found.burstiness == []
    assert 'burstiness is left out: queries and keys' in found.remarks[-1]
    run = find_run(runs / 'none')
    run.cfg.model.backbone.tune = 'bias'
    collect_results(run, 'val', images=2, pictures=0)
    assert seen[1].tune == 'nothing'  # not the one whose biases are trained


def test_pictures_are_rgb_whatever_the_model_takes():
    collector = SimpleNamespace(run=None, model=None)  # neither decides
    item = dict(inputs=torch.zeros(3, 4, 4, dtype=torch.uint8), data_samples={})
    item['inputs'][0] = 255  # the blue of a BGR image
    predicted = Prediction(np.zeros((4, 4)))
    picture = collect.Collector._picture(collector, item, None, predicted, [], 0)
    assert (picture.pixels == (0, 0, 255)).all()


def test_training_images_that_are_sampled(runs):
    run = find_run(runs / 'lspt')
    inner = run.cfg.train_dataloader.dataset
    run.cfg.train_dataloader.dataset = dict(type='ClassBalancedDataset', dataset=inner)
    found = training_images(run.cfg)
    assert found.type == 'ClassBalancedDataset'
    assert found.dataset.pipeline == run.cfg.val_dataloader.dataset.pipeline
    assert inner.pipeline != found.dataset.pipeline


@pytest.mark.slow
def test_features_against_the_plain_vits(runs, tmp_path, monkeypatch):
    run = find_run(runs / 'cls')
    few = collect_results(run._replace(name='few'), 'train', images=6, pictures=0)
    assert (few.alignment, few.not_aligned) == ({}, '6 images; expected at least 16')
    for module in ('report.collect', 'analysis.alignment'):
        monkeypatch.setattr(f'lspt_mm.{module}.MIN_IMAGES', 12)
    found = collect_results(run, 'train', images=12, pictures=0)
    assert list(found.alignment) == [1, 2, 3, 4] and found.not_aligned == ''
    for one in found.alignment.values():
        assert 0.5 < one.kept <= 1 and one.identity < 1 and one.components == 16
    assert numbers_of(found)['alignment']['4']['linear'] == found.alignment[4].linear
    write_page([found, few], tmp_path / 'x.html', 'train')
    page = (tmp_path / 'x.html').read_text()
    assert 'id="figure-alignment"' in page and 'cls: from and to 16 principal components' in page
    assert 'Left out: few (6 images; expected at least 16)' in page


def test_the_plain_vit(tmp_path, photo_batch):
    """The one that was tuned: with prompts and LoRA off, or read again from its file."""
    mini = write_classification(tmp_path)

    def model(tune, prompter=None):
        config = child_config(
            mini.config, tune, prompter, f"model['backbone'].update(tune={tune!r})\n"
        )
        model = build(config)
        model.cfg = Config.fromfile(config)
        return model

    frozen = model('nothing')
    assert collect.plain_vit(frozen) == (None, '')
    want = last_block(frozen.backbone, photo_batch, True)
    for tune, prompter in (
        ('prompts', {'type': 'VPT', 'num_tokens': 3}), ('lora-2', None), ('bias', None),
        ('partial-1', None), ('full', {'type': 'VPT', 'num_tokens': 3}),
    ):
        tuned = model(tune, prompter)
        plain, reason = collect.plain_vit(tuned)
        assert reason == '' and (plain is tuned.backbone) == (tune in ('prompts', 'lora-2'))
        assert torch.equal(last_block(plain, photo_batch, False), want)
        assert not torch.equal(last_block(tuned.backbone, photo_batch, True), want)
    mini.vit.unlink()
    plain, reason = collect.plain_vit(tuned)
    assert plain is None and 'tiny_vit.pth' in reason
    tuned.backbone.pretrained = None
    assert 'random' in collect.plain_vit(tuned)[1]


@pytest.fixture
def photo_batch():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def last_block(vit, images, prompted):
    steps = []
    with torch.no_grad():
        vit.unroll(images, steps.append, prompted=prompted)
    return steps[-1].x_out


# ---- the page ---------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def page(runs, tmp_path_factory):
    def make(folder):
        run_ok('report.py', *(f'{name.upper()}={runs / name}' for name in (*METHODS, 'none')),
               '--images', 3, '--pictures', 2, '--out', folder / 'deep/er/page.html', '--numbers',
               folder / 'numbers.json',
               cwd=folder)

    folder = once(tmp_path_factory, 'report_page', make)
    return (folder / 'deep/er/page.html').read_text()


@pytest.mark.slow
def test_the_page_needs_no_other_file(page):
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=', page)
    assert not re.findall(r'url\((?!#)', page)
    assert 'http' not in re.sub(r'http://(www\.w3\.org|purl\.org|creativecommons\.org)', '', page)


@pytest.mark.slow
def test_all_runs_are_in_it(page):
    for name in (*METHODS, 'none'):
        assert name.upper() in page
    for figure in ('curves', 'attention', 'persistence_cls', 'persistence_prompts', 'cosine', 'cka',
                   'forgetting', 'learned', 'memory', 'confusion'):
        assert f'id="figure-{figure}"' in page, figure
    assert 'id="burstiness"' in page and 'id="figure-entry"' not in page
    assert page.count('(3 images; expected at least 16)') == len(METHODS)  # not of the frozen ViT


@pytest.mark.slow
def test_trainable_parameters_are_in_the_table(page):
    # VPT-deep with 4 tokens, width 16, 4 blocks; GaPT with 3 tokens: P D + L-1 + L.
    assert f'<td>{4 * 16 * 4}</td>' in page and f'<td>{3 * 16 + 3 + 4}</td>' in page


@pytest.mark.slow
def test_identifiers_are_unique(page):
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.slow
def test_the_pictures_hold_attention_of_every_block_and_head(page):
    data = data_of(page)
    assert data['runs'] == ['LSPT', 'GATED', 'DEEP', 'NONE']
    assert (data['blocks'], data['heads'], len(data['images'])) == (4, 2, 2)
    for image in data['images']:
        assert image['pixels'].startswith('data:image/jpeg;base64,')
        assert image['truth']['picture'].startswith('data:image/png;base64,')
        for name, run in zip(data['runs'], image['runs'], strict=True):
            for who in ('cls', 'prompts'):
                assert len(run[who]) == 4
                for one in run[who]:
                    if name == 'NONE' and who == 'prompts':
                        assert one is None
                        continue
                    assert (one['h'], one['w']) == (5, 6)  # 40 x 48 pixels in patches of 8
                    maps = np.frombuffer(base64.b64decode(one['maps']), np.uint8)
                    assert maps.reshape(3, 30).max(1).tolist() == [255] * 3
                    assert len(one['peak']) == 3 and min(one['peak']) >= 1


@pytest.mark.slow
def test_numbers_for_programs(page, tmp_path_factory):
    folder = once(tmp_path_factory, 'report_page', None)
    found = json.loads((folder / 'numbers.json').read_text())
    assert list(found) == ['LSPT', 'GATED', 'DEEP', 'NONE']
    assert found['NONE']['forgetting'] is None and len(found['LSPT']['forgetting']['cka']) == 4
    assert found['DEEP']['forgetting']['passed_on'] == [None] * 3  # nobody reads what a block made
    assert np.array(found['GATED']['confusion']).shape == (150, 150)
    shares = found['GATED']['per_block_stats']["share in the last block's prompts (0: inserted)"]
    assert list(shares) == ['0', '1', '2', '3'] and sum(shares.values()) == pytest.approx(1)
    assert found['LSPT']['per_block_stats'] == {}
    counts = np.array(found['LSPT']['confusion'])
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    ious = counts.diagonal()[union > 0] / union[union > 0]
    assert found['LSPT']['score'] == pytest.approx(100 * ious.mean())
    assert found['LSPT']['localization']['cls']['1']['entropy'] <= 1


@pytest.mark.slow
def test_a_classification(runs, tmp_path):
    run_ok('report.py', runs / 'cls', '--out', tmp_path / 'x.html', '--images', 4, '--split',
           'train', cwd=tmp_path)
    page = (tmp_path / 'x.html').read_text()
    data = data_of(page)
    assert data['images'][0]['truth']['text'] in ('ant', 'bee', 'cat')
    predicted = data['images'][0]['runs'][0]['predicted']['text']
    assert re.fullmatch(r'(ant|bee|cat) \(\d+ %\)', predicted)
    assert 'Share found' in page


@pytest.mark.parametrize('names', [('0.jpg', '0.jpg'), ('a.jpg', 'b.jpg')])
def test_images_of_the_same_name_are_several(names):
    one, two = (Picture(name, 3 * i, *[None] * 5) for i, name in enumerate(names))
    moved = Picture(names[1], 3, *[None] * 5)  # of another run
    assert by_image([[one, two], [moved]]) == [[one, None], [two, moved]]


@pytest.mark.slow
def test_attention_as_pictures(runs, tmp_path):
    run_ok('visualization/attention.py', runs / 'lspt', runs / 'none', '--images', 2, '--head',
           'all', '--out', tmp_path / 'x', cwd=tmp_path)
    found = sorted((tmp_path / 'x').iterdir())
    assert len(found) == 2 * 2  # images, heads
    with Image.open(found[0]) as file:
        pixels = np.array(file.convert('RGB'))
    # Three rows (class token and prompts, class token) of an image and four blocks, all different.
    assert pixels.shape[1] > 600 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000
    refused(run_tool('visualization/attention.py', runs / 'lspt', '--head', '3', cwd=tmp_path),
            '--head 3', '2')
    refused(run_tool('visualization/attention.py', 'nowhere', '--head', 'last', cwd=tmp_path),
            '--head last', 'a number')


@pytest.mark.slow
def test_what_is_to_be_known_of_runs_and_a_name_like_markup(runs, tmp_path):
    work = tmp_path / 'random'
    run_ok('train.py', runs.parent / 'deep.py', '--work-dir', work, '--random-backbone',
           cwd=tmp_path)
    lines = (work / 'log.jsonl').read_text().splitlines()
    (work / 'log.jsonl').write_text(lines[0].replace('"iter": 4', '"iter": 2') + '\n')
    nolog = tmp_path / 'nolog'
    shutil.copytree(runs / 'deep', nolog)
    (nolog / 'log.jsonl').unlink()
    markup = '</script><b>&"x'
    run_ok('report.py', work, nolog, f'{markup}={runs / "deep"}', '--images', 2, '--pictures', 1,
           '--out', 'x.html', cwd=tmp_path)
    page = (tmp_path / 'x.html').read_text()
    assert '</script><b>' not in page and data_of(page)['runs'] == ['random', 'nolog', markup]
    assert '<b>random</b>: trained on a random ViT' in page
    assert '<b>random</b>: its log ends at iteration 2, the checkpoint is of 4' in page
    assert '<b>nolog</b>' not in page and '<td>–</td><td>iter_4.pth</td>' in page


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['{runs}/lspt', '{runs}/cls'], ['lspt: segmentation', 'cls: classification']),
        (['{runs}/lspt', '--out', '.'], ['--out .', 'is a folder']),
        (['{runs}/lspt', '--out', '{runs}/lspt/log.jsonl/x.html'], ['--out', 'cannot be written']),
        (['{runs}/lspt', '--numbers', '{runs}'], ['--numbers', 'is a folder']),
        (['{runs}/lspt', '--device', 'cuda:77'], ['device cuda:77']),
        (['nowhere'], ['nowhere', 'no such folder']),
        (['{runs}/pretraining'], ['mae.py', 'no lspt_mm.PromptedViT']),
        (['{runs}/lspt', '--images', '0'], ['--images']),
        (['{runs}/lspt', '--data-root', 'gone'], ['gone', '--data-root']),
        (['{runs}/lspt', '--pretrained', 'gone.pth'], ['gone.pth']),
    ],
)
def test_bad_input(arguments, words, runs, tmp_path):
    pretraining = runs / 'pretraining'
    pretraining.mkdir(exist_ok=True)
    (pretraining / 'mae.py').write_text("model = dict(backbone=dict(type='MAEViT'))\n")
    shutil.copy(runs / 'lspt/iter_4.pth', pretraining / 'epoch_1.pth')
    arguments = [text.format(runs=runs) for text in arguments]
    refused(run_tool('report.py', *arguments, cwd=tmp_path), *words)
    assert not (tmp_path / 'report.html').exists()
