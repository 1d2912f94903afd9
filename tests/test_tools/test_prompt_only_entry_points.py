"""Prompt-only checkpoints at every door: tools, mmseg's and mmpretrain's own ways to a model."""

import hashlib
import json
import re
import shutil
from itertools import product

import numpy as np
import pytest
import torch
from miniatures import (
    LARGE_WINDOWS,
    ok,
    once,
    refused,
    run_tool,
    tiny_vit,
    write_classification,
    write_segmentation,
)

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.checkpoints.records import RECORD
from lspt_mm.errors import InputError


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The same run, its checkpoints full and prompt-only; both tasks."""

    def make(folder):
        for task, write in (('seg', write_segmentation), ('cls', write_classification)):
            (folder / task).mkdir()
            mini = write(folder / task)
            for content in ('full', 'prompts'):
                work = folder / task / content
                run = run_tool(
                    'train.py', mini.config, '--work-dir', work, '--checkpoint', content,
                    cwd=folder,
                )
                (folder / task / f'{content}.txt').write_text(ok(run).out)

    return once(tmp_path_factory, 'prompt_only', make)


@pytest.fixture
def seg(runs):
    return runs / 'seg'


@pytest.fixture
def cls(runs):
    return runs / 'cls'


@pytest.fixture
def moved(runs, tmp_path):
    """Config and prompt-only checkpoint of the segmentation run, its base out of reach."""
    for name in ('mini_seg.py', 'tiny_vit.pth'):
        shutil.copy(runs / 'seg' / name, tmp_path)
    text = (tmp_path / 'mini_seg.py').read_text()
    text = text.replace(str(runs / 'seg/tiny_vit.pth'), str(tmp_path / 'gone.pth'))
    (tmp_path / 'mini_seg.py').write_text(text)
    content = torch.load(runs / 'seg/prompts/iter_4.pth', weights_only=False)
    record = json.loads(bytes(content['state_dict'][f'backbone.{RECORD}'].tolist()))
    record['source'] = 'mae_of_someone_else.pth'
    content['state_dict'][f'backbone.{RECORD}'] = torch.tensor(
        list(json.dumps(record).encode()), dtype=torch.uint8
    )
    torch.save(content, tmp_path / 'prompts.pth')
    return tmp_path


def tensors(path):
    return torch.load(path, map_location='cpu', weights_only=False)['state_dict']


# ---- what is written --------------------------------------------------------------------------


@pytest.mark.parametrize(('task', 'last'), [('seg', 'iter_4.pth'), ('cls', 'epoch_2.pth')])
def test_all_but_the_frozen_vit(task, last, runs):
    full, small = (tensors(runs / task / content / last) for content in ('full', 'prompts'))
    vit = {k for k in full if k.startswith('backbone.') and '.prompter.' not in k}
    kept = {'backbone.pos_embed'} & set(small)
    assert set(full) - set(small) == vit - kept
    assert set(small) - set(full) == {f'backbone.{RECORD}'}
    # The same run: what both hold is the same.
    assert all(torch.equal(full[k], small[k]) for k in set(full) & set(small))
    assert 'optimizer' in torch.load(runs / task / 'prompts' / last, weights_only=False)


def test_the_share_of_prompts_and_head_is_shown(cls):
    out = (cls / 'prompts.txt').read_text()
    state = tensors(cls / 'prompts/epoch_2.pth')
    sizes = {
        'prompts': sum(v.numel() * 4 for k, v in state.items() if '.prompter.' in k),
        'head': sum(v.numel() * 4 for k, v in state.items() if k.startswith('head.')),
    }
    for part, size in sizes.items():
        share = 100 * size / sum(sizes.values())
        assert re.search(rf'{part} +{size / 1e6:.3f} MB +{share:.2f}%', out), (part, size, share)
    assert out.count('Checkpoints without the frozen ViT') == 1


def test_full_checkpoints_name_their_base_too(seg):
    meta = torch.load(seg / 'full/iter_4.pth', weights_only=False)['meta']
    record = json.loads(meta['lspt_mm'])['backbone']
    assert record['source'] == str(seg / 'tiny_vit.pth')
    assert record['prompter']['type'] == 'LSPT'


# ---- tools/test.py ----------------------------------------------------------------------------


def test_the_same_result(runs, tmp_path):
    for task, metric, last in (
        ('seg', 'mIoU', 'iter_4.pth'), ('cls', 'accuracy/top1', 'epoch_2.pth'),
    ):
        found = {}
        for content in ('full', 'prompts'):
            work = tmp_path / task / content
            config = runs / task / f'mini_{task}.py'
            run = run_tool('test.py', config, runs / task / content / last, '--work-dir', work,
                           cwd=tmp_path)
            ok(run)
            (file,) = work.glob('*/*.json')
            found[content] = json.loads(file.read_text())[metric]
        assert found['full'] == found['prompts']


@pytest.mark.slow
def test_tta(seg, tmp_path):
    ok(run_tool('test.py', seg / 'mini_seg.py', seg / 'prompts/iter_4.pth', '--tta', '--work-dir',
                tmp_path, cwd=tmp_path))


def test_test_without_the_base_is_refused(moved):
    run = run_tool('test.py', 'mini_seg.py', 'prompts.pth', cwd=moved)
    refused(run, 'gone.pth', 'mae_of_someone_else.pth', '--pretrained')
    ok(run_tool('test.py', 'mini_seg.py', 'prompts.pth', '--pretrained', 'tiny_vit.pth', cwd=moved))


def test_test_with_another_base_is_refused(moved):
    torch.save({'model': tiny_vit(seed=4).state_dict()}, moved / 'gone.pth')
    run = run_tool('test.py', 'mini_seg.py', 'prompts.pth', cwd=moved)
    refused(run, 'gone.pth: another ViT')


# ---- tools/train.py ---------------------------------------------------------------------------


@pytest.mark.parametrize('where', ['path', pytest.param('auto', marks=pytest.mark.slow)])
def test_resuming_equals_not_stopping(where, seg, tmp_path):
    work = tmp_path / 'work'
    path = [seg / 'prompts/iter_2.pth']
    if where == 'auto':
        work.mkdir()
        shutil.copy(path.pop(), work)
        (work / 'last_checkpoint').write_text(str(work / 'iter_2.pth'))
    ok(run_tool('train.py', seg / 'mini_seg.py', '--work-dir', work, '--resume', *path,
                '--checkpoint', 'prompts', cwd=tmp_path))
    resumed, straight = tensors(work / 'iter_4.pth'), tensors(seg / 'prompts/iter_4.pth')
    assert set(resumed) == set(straight)
    for key, value in straight.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-6, atol=1e-7, msg=key)


@pytest.mark.slow
def test_going_on_from_full_to_prompt_only(seg, tmp_path):
    ok(run_tool('train.py', seg / 'mini_seg.py', '--work-dir', tmp_path / 'work', '--resume',
                seg / 'full/iter_2.pth', '--checkpoint', 'prompts', cwd=tmp_path))
    found = tensors(tmp_path / 'work/iter_4.pth')
    assert 'backbone.layers.0.attn.qkv.weight' not in found and f'backbone.{RECORD}' in found


def test_resuming_with_another_base_is_refused(seg, tmp_path):
    torch.save({'model': tiny_vit(seed=4).state_dict()}, tmp_path / 'other.pth')
    run = run_tool('train.py', seg / 'mini_seg.py', '--work-dir', tmp_path / 'work', '--resume',
                   seg / 'prompts/iter_2.pth', '--pretrained', 'other.pth',
                   cwd=tmp_path)
    refused(run, 'differs from the loaded backbone', 'other.pth')


def test_prompts_of_an_unknown_base_are_not_written(seg, tmp_path):
    """A run on a random ViT, and one whose ViT came with who knows what."""
    run = run_tool('train.py', seg / 'mini_seg.py', '--work-dir', tmp_path / 'work',
                   '--random-backbone', '--checkpoint', 'prompts', cwd=tmp_path)
    refused(run, "content='prompts'", '--random-backbone', '--pretrained')
    assert not (tmp_path / 'work').exists()  # told before anything was built
    child = tmp_path / 'child.py'
    child.write_text(
        (seg / 'mini_seg.py').read_text() + "\nmodel['backbone']['pretrained'] = None\n"
        "custom_hooks = [dict(type='lspt_mm.BackboneWeightsHook', allow_random=True)]\n"
    )
    run = run_tool('train.py', child, '--work-dir', tmp_path / 'work', '--checkpoint', 'prompts',
                   cwd=tmp_path)
    unknown = 'the source of the weights of backbone is unknown'
    refused(run, "content='prompts'", unknown, '--pretrained')


@pytest.mark.slow
def test_nothing_is_frozen(seg, tmp_path):
    run = run_tool('train.py', seg / 'mini_seg.py', '--work-dir', tmp_path / 'work', '--checkpoint',
                   'prompts', '--cfg-options', 'model.backbone.tune=full',
                   cwd=tmp_path)
    refused(run, "tune='full'")


# ---- checkpoints of another run ---------------------------------------------------------------

MISFITS = [
    (['model.backbone.prompter.num_tokens=4'], 'num_tokens'),
    (['model.backbone.prompter.cell=diagonal'], 'cell'),
    (['model.backbone.prompter.type=VPT'], "'VPT'"),
    (['model.decode_head.channels=16'], 'of another shape'),
]


@pytest.mark.slow
@pytest.mark.parametrize('content', ['full', 'prompts'])
@pytest.mark.parametrize(('options', 'word'), MISFITS, ids=str)
def test_a_checkpoint_of_another_configuration_is_refused(options, word, content, seg, tmp_path):
    checkpoint = seg / content / 'iter_4.pth'
    run = run_tool('test.py', seg / 'mini_seg.py', checkpoint, '--work-dir', tmp_path / 'w',
                   '--cfg-options', *options, cwd=tmp_path)
    refused(run, word)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('options', 'word'), [*MISFITS, (['model.backbone.tune=prompts+bias'], 'tune')], ids=str
)
def test_and_not_gone_on_from(options, word, seg, tmp_path):
    run = run_tool('train.py', seg / 'mini_seg.py', '--work-dir', tmp_path / 'w', '--resume',
                   seg / 'full/iter_2.pth', '--cfg-options', *options, cwd=tmp_path)
    refused(run, word)


# ---- mmseg ------------------------------------------------------------------------------------


def image():
    return np.random.default_rng(3).integers(0, 256, (40, 48, 3), np.uint8)


def test_mmsegs_init_model(seg):
    from mmseg.apis import inference_model, init_model

    models = {
        content: init_model(
            str(seg / 'mini_seg.py'), str(seg / content / 'iter_4.pth'), 'cpu', LARGE_WINDOWS
        )
        for content in ('full', 'prompts')
    }
    assert models['prompts'].dataset_meta['classes'] == models['full'].dataset_meta['classes']
    full, small = (inference_model(m, image()).pred_sem_seg.data for m in models.values())
    assert torch.equal(full, small)


def test_mmsegs_init_model_without_the_base(moved):
    from mmseg.apis import init_model

    with pytest.raises(InputError, match='mae_of_someone_else.pth'):
        init_model(str(moved / 'mini_seg.py'), str(moved / 'prompts.pth'), 'cpu')
    options = {'model.backbone.pretrained': str(moved / 'tiny_vit.pth')}
    init_model(str(moved / 'mini_seg.py'), str(moved / 'prompts.pth'), 'cpu', options)


def test_mmsegs_init_model_with_prompts_that_lost_their_record(seg, tmp_path):
    from mmseg.apis import inference_model, init_model

    content = torch.load(seg / 'prompts/iter_4.pth', weights_only=False)
    del content['state_dict'][f'backbone.{RECORD}']
    torch.save(content, tmp_path / 'lost.pth')
    model = init_model(str(seg / 'mini_seg.py'), str(tmp_path / 'lost.pth'), 'cpu')
    with pytest.raises(InputError, match='lacks the weights of the ViT'):
        inference_model(model, image())


def test_mmsegs_inferencer(seg, moved):
    from mmengine.config import Config
    from mmseg.apis import MMSegInferencer

    def inferencer(config, weights):
        cfg = Config.fromfile(config)
        cfg.test_dataloader.dataset.pipeline = [
            {'type': 'LoadImageFromFile'}, {'type': 'PackSegInputs'}
        ]
        return MMSegInferencer(cfg, str(weights), device='cpu')

    found = [
        inferencer(seg / 'mini_seg.py', seg / content / 'iter_4.pth')(
            image(), return_datasamples=True
        )
        for content in ('full', 'prompts')
    ]
    assert torch.equal(*(f.pred_sem_seg.data for f in found))
    with pytest.raises(InputError, match='mae_of_someone_else.pth'):
        inferencer(moved / 'mini_seg.py', moved / 'prompts.pth')


# ---- mmpretrain -------------------------------------------------------------------------------


def test_mmpretrains_get_model_and_inferencer(cls):
    from mmengine.registry import init_default_scope
    from mmpretrain.apis import ImageClassificationInferencer, get_model

    init_default_scope('mmpretrain')  # other tests of this process have left theirs
    scores = []
    for content in ('full', 'prompts'):
        config, file = str(cls / 'mini_cls.py'), str(cls / content / 'epoch_2.pth')
        model = get_model(config, pretrained=file, device='cpu')
        by_name = ImageClassificationInferencer(config, pretrained=file, device='cpu')
        for inferencer in (ImageClassificationInferencer(model), by_name):
            scores.append(inferencer(image())[0]['pred_scores'])
    assert all(np.array_equal(scores[0], other) for other in scores[1:])


def test_mmpretrains_get_model_without_the_base(cls, tmp_path):
    from mmpretrain.apis import get_model

    text = (cls / 'mini_cls.py').read_text().replace(str(cls / 'tiny_vit.pth'), 'gone.pth')
    (tmp_path / 'moved.py').write_text(text)
    content = torch.load(cls / 'prompts/epoch_2.pth', weights_only=False)
    key = f'backbone.{RECORD}'
    record = json.loads(bytes(content['state_dict'][key].tolist()))
    record['source'] = 'gone too.pth'
    new = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
    content['state_dict'][key] = new
    torch.save(content, tmp_path / 'prompts.pth')
    with pytest.raises(InputError, match='gone too.pth'):
        get_model(str(tmp_path / 'moved.py'), pretrained=str(tmp_path / 'prompts.pth'))


# ---- publishing -------------------------------------------------------------------------------


def publish(folder, *arguments):
    run = ok(run_tool('model_converters/publish_model.py', *arguments, cwd=folder))
    name = re.search(r'written: (\S+)', run.out)[1]
    return folder / name, run


def plain(value):
    """Whether a checkpoint's content is of tensors, strings, numbers, lists and dicts alone."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool, torch.Tensor)


KINDS, SUFFIXES = ('--prompts-only', '--merged'), ('pth', 'safetensors')
ALL_WAYS = list(product(('full', 'prompts'), KINDS, SUFFIXES))
QUICK = [('full', '--prompts-only', 'pth'), ('prompts', '--merged', 'safetensors')]


@pytest.mark.parametrize(
    ('content', 'kind', 'suffix'),
    [pytest.param(*way, marks=() if way in QUICK else pytest.mark.slow) for way in ALL_WAYS],
)
def test_publishing(content, kind, suffix, seg, tmp_path):
    path, run = publish(
        tmp_path, seg / 'mini_seg.py', seg / content / 'iter_4.pth', 'shared/lspt', kind,
        '--format', suffix, '--dataset', 'ADE20K', '--metric', 'mIoU 1.2', '--base-licence', 'none',
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'lspt-{digest[:8]}.{suffix}'
    found = read_checkpoint(str(path))
    assert set(found) == {'state_dict', 'meta'} and plain(found)
    if suffix == 'pth':
        assert plain(torch.load(path, weights_only=True))
    assert len(found['meta']['dataset_meta']['classes']) == 150
    full = tensors(seg / 'full/iter_4.pth')
    if kind == '--merged':
        assert set(found['state_dict']) == set(full)
        assert all(torch.equal(found['state_dict'][k], v) for k, v in full.items())
    else:
        assert 'backbone.cls_token' not in found['state_dict']
    card = path.with_suffix('.md').read_text()
    for text in ('LSPT', 'ADE20K', 'mIoU 1.2', 'tiny_vit.pth', 'Licence of the base'):
        assert text in card
    for text in (card, path.read_bytes().decode('latin1')):
        assert str(tmp_path) not in text and str(seg) not in text
    # What was published gives the same result, in a process that has nothing but file and base.
    results = []
    for name, file in (('a', path), ('b', seg / 'full/iter_4.pth')):
        ok(run_tool('test.py', seg / 'mini_seg.py', file, '--work-dir', tmp_path / name,
                    cwd=tmp_path))
        (log,) = (tmp_path / name).glob('*/*.json')
        results.append(json.loads(log.read_text())['mIoU'])
    assert results[0] == results[1]


@pytest.mark.slow
def test_publishing_is_reproducible_and_leaves_no_debris(seg, tmp_path):
    paths = {
        publish(tmp_path, seg / 'mini_seg.py', seg / 'full/iter_4.pth', 'out/a')[0]
        for _ in range(2)
    }
    assert len(paths) == 1
    assert len(list((tmp_path / 'out').iterdir())) == 2


def test_prompts_alone_of_a_runs_folder(seg, tmp_path):
    path, _ = publish(tmp_path, seg / 'full', 'a', '--without-head')
    names = read_checkpoint(str(path))['state_dict']
    assert all(name.startswith('backbone.') for name in names)
    run = run_tool('test.py', seg / 'mini_seg.py', path, cwd=tmp_path)
    refused(run, 'missing', 'neck.')


def test_a_url_as_the_base(seg, tmp_path):
    url = f'https://example.org/vit.pth#sha256={"a" * 64}'
    path, _ = publish(tmp_path, seg / 'mini_seg.py', seg / 'full/iter_4.pth', 'a', '--base-source',
                      url)
    state = read_checkpoint(str(path))['state_dict']
    assert json.loads(bytes(state[f'backbone.{RECORD}'].tolist()))['source'] == url
    # The config's own file is the right one: nothing is fetched.
    ok(run_tool('test.py', seg / 'mini_seg.py', path, cwd=tmp_path))


def test_publishing_what_is_not_of_this_config(seg, cls, tmp_path):
    for checkpoint, word in (
        (cls / 'full/epoch_2.pth', 'out_type'), (tmp_path / 'no.pth', 'no such'),
    ):
        run = run_tool('model_converters/publish_model.py', seg / 'mini_seg.py', checkpoint, 'out',
                       cwd=tmp_path)
        refused(run, word)
    assert not list(tmp_path.iterdir())


def test_published_files_hold_no_state_to_go_on_from(seg, tmp_path):
    path, _ = publish(tmp_path, seg / 'mini_seg.py', seg / 'full/iter_4.pth', 'a')
    run = run_tool('train.py', seg / 'mini_seg.py', '--resume', path, cwd=tmp_path)
    refused(run, 'no state of a training run', 'load_from')


@pytest.mark.slow
def test_automatic_resuming_from_a_torn_or_absent_file(seg, tmp_path):
    (tmp_path / 'w').mkdir()
    for name in ('torn.pth', 'gone.pth'):
        (tmp_path / 'w/last_checkpoint').write_text(str(tmp_path / 'w' / name))
        (tmp_path / 'w/torn.pth').write_bytes((seg / 'full/iter_2.pth').read_bytes()[:5000])
        run = run_tool('train.py', seg / 'mini_seg.py', '--work-dir', 'w', '--resume', cwd=tmp_path)
        refused(run, name)


@pytest.mark.parametrize('out', ['.', '/', '', '..'])
def test_names_that_are_no_names(out, seg, tmp_path):
    run = run_tool('model_converters/publish_model.py', seg / 'mini_seg.py',
                   seg / 'full/iter_4.pth', out, cwd=tmp_path)
    refused(run, 'file name')


def test_a_mistyped_vit_is_not_passed_over(seg, tmp_path):
    run = run_tool('test.py', seg / 'mini_seg.py', seg / 'prompts/iter_4.pth', '--pretrained',
                   'typo.pth', cwd=tmp_path)
    refused(run, 'typo.pth')
