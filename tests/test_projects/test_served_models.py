"""Several models on one copy of their ViT predict what each of them predicts on its own."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from miniatures import ARCH, once, save_image, write_vit
from mmengine.config import Config
from mmengine.registry import init_default_scope
from served_miniatures import BIRDS, METHODS, write_sources

from lspt_mm.analysis import attention_maps
from lspt_mm.errors import InputError
from projects.demo_app.image_io import read_image
from projects.demo_app.models import ServedModels
from projects.demo_app.sources import Source, named_sources

SIZES = ((40, 56), (64, 33), (37, 90))


def photo(height, width, seed=0):
    return np.random.default_rng([seed, height]).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Folders of both tasks, full and prompt-only."""

    def make(folder):
        for content in ('full', 'prompts'):
            write_sources(folder / f'seg_{content}', 'seg', content)
            write_sources(folder / f'cls_{content}', 'cls', content, meta={'classes': BIRDS})

    return once(tmp_path_factory, 'served', make)


def sources_of(made, task, content):
    folder = made / f'{task}_{content}'
    return [
        Source(f'{task} {n}', str(folder / f'{task}_{n}.py'), str(folder / f'{n}.pth'))
        for n in METHODS
    ]


@pytest.fixture(scope='module', params=['full', 'prompts'])
def content(request):
    return request.param


@pytest.fixture(scope='module')
def both(made, content):
    return sources_of(made, 'seg', content) + sources_of(made, 'cls', content)


@pytest.fixture(scope='module')
def served(both):
    return ServedModels(both)


def alone(source):
    """The frameworks' own inference on a model of its own: labels, or scores; and its attention."""
    cfg = Config.fromfile(source.config)
    init_default_scope(cfg.default_scope)
    if cfg.default_scope == 'mmseg':
        from mmseg.apis import inference_model, init_model

        model = init_model(copy.deepcopy(cfg), source.checkpoint, device='cpu')
        model.cfg.test_pipeline = copy.deepcopy(cfg.test_dataloader.dataset.pipeline)

        def predict(bgr):
            init_default_scope('mmseg')  # it builds the pipeline again for each image
            return inference_model(model, bgr).pred_sem_seg.data[0].numpy(), bgr

    else:
        from mmpretrain import ImageClassificationInferencer, get_model

        model = get_model(cfg, pretrained=source.checkpoint)
        inferencer = ImageClassificationInferencer(model)

        def predict(bgr):
            top, left = (round(max(side - 32, 0) / 2) for side in bgr.shape[:2])
            return inferencer(bgr)[0]['pred_scores'], bgr[top:, left:][:32, :32]

    def run(image):
        result, seen = predict(np.ascontiguousarray(image[..., ::-1]))
        pixels = torch.from_numpy(seen.transpose(2, 0, 1).copy())
        data = model.data_preprocessor({'inputs': [pixels]}, False)
        return result, attention_maps(model.backbone, data['inputs'])

    return run


@pytest.fixture(scope='module')
def separate(both):
    return {source.name: alone(source) for source in both}


def same(found, result, classes):
    if found.description.picture is not None:
        return np.array_equal(found.labels, result)
    order = np.argsort(-result)[:5]
    shares = [(one.name, one.share) for one in found.description.classes]
    return shares == [(classes[n], float(result[n])) for n in order]


@pytest.mark.parametrize(
    'size', [SIZES[0], *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES[1:])]
)
def test_predictions_of_separate_models(served, separate, size):
    image = photo(*size)
    for name, run in separate.items():
        found = served.predict(name, image)
        result, attention = run(image)
        assert same(found, result, BIRDS), name
        for block, expected in zip(found.attention.blocks, attention, strict=True):
            assert block.number == expected.number
            assert np.array_equal(block.cls, expected.cls[0].numpy()), name
            assert (block.prompts is None) == (expected.prompts is None)
            if block.prompts is not None:
                mean = expected.prompts[0].mean(0).numpy()
                assert np.array_equal(block.prompts, mean), name


def test_predictions_differ_from_model_to_model(served):
    image = photo(40, 56)
    for task in ('seg', 'cls'):
        results = [str(served.predict(f'{task} {n}', image).description) for n in METHODS]
        assert len(set(results)) == len(METHODS)


@pytest.mark.slow
def test_from_threads(served, separate):
    images = [photo(*size, seed=1) for size in SIZES]
    wanted = {
        (name, i): run(image)[0] for name, run in separate.items() for i, image in enumerate(images)
    }
    jobs = [*wanted]
    np.random.default_rng(0).shuffle(jobs)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: served.predict(job[0], images[int(job[1])]), jobs))
    for (name, i), one in zip(jobs, found, strict=True):
        assert one.model == name and same(one, wanted[name, int(i)], BIRDS)


# ---- one ViT ----------------------------------------------------------------------------------


def vit_tensors(model):
    vit = model.backbone
    return {**dict(vit.named_parameters()), **dict(vit.named_buffers())}


def test_one_vit_in_memory(served, both):
    """Segmentors and classifiers alike: their image sizes, and so their positions, agree here."""
    known, apart = {}, 0
    for source in both:
        for name, tensor in vit_tensors(served.module(source.name)).items():
            if not name.startswith('prompter.'):
                apart += tensor.nbytes
                assert known.setdefault(name, tensor) is tensor, (source.name, name)
    assert len({tensor.data_ptr() for tensor in known.values()}) == len(known)
    # A classifier has the final norm, which these segmentors do not use.
    assert set(known) == set(vit_tensors(served.module('cls none')))
    held, separate = served.bytes_held()
    assert separate - held == apart - sum(tensor.nbytes for tensor in known.values())


def test_prompts_and_heads_are_not_shared(served, both):
    places = [
        {t.data_ptr() for n, t in served.module(s.name).state_dict(keep_vars=True).items()
         if t.numel() and (not n.startswith('backbone.') or '.prompter.' in n)}
        for s in both
    ]
    assert sum(map(len, places)) == len(set().union(*places))


def test_predicting_loads_nothing(served, both, monkeypatch):
    import builtins

    from mmengine.runner import checkpoint

    def forbidden(*args, **kwargs):
        raise AssertionError('something is read')

    for owner, name in ((torch, 'load'), (builtins, 'open'), (checkpoint, 'load_checkpoint')):
        monkeypatch.setattr(owner, name, forbidden)
    for source in both:
        served.predict(source.name, photo(40, 56))


# ---- what is told -----------------------------------------------------------------------------


def test_shares_and_mask(served):
    found = served.predict('seg lspt', photo(40, 56))
    mask, classes = found.description
    assert found.labels.shape == (40, 56) and mask.shape == (40, 56, 3)
    assert sum(entry.share for entry in classes) == pytest.approx(1)
    assert [e.share for e in classes] == sorted((e.share for e in classes), reverse=True)
    for entry in classes:
        there = found.labels == entry.number
        assert entry.share == there.mean()
        assert (mask[there] == entry.colour).all()
    # A checkpoint that names no classes is shown with numbers, not with another data set's names.
    assert all(entry.name == f'class {entry.number}' for entry in classes)


def test_what_the_model_saw(served):
    image = photo(40, 56)
    assert np.array_equal(served.predict('cls vpt', image).attention.seen, image[4:36, 12:44])
    attention = served.predict('seg vpt', image).attention
    assert np.array_equal(attention.seen, image) and attention.cell == (8, 8)
    assert attention.blocks[0].cls.shape == (ARCH['num_heads'], 5, 7)


def test_large_inputs_have_attention_of_less(served, monkeypatch):
    monkeypatch.setattr('projects.demo_app.models.MOST_PATCHES', 12)
    attention = served.predict('seg lspt', photo(40, 56)).attention
    height, width = attention.blocks[0].cls.shape[1:]
    assert height * width <= 12 and attention.seen.shape == (40, 56, 3)
    assert (attention.cell[0] * height, attention.cell[1] * width) == pytest.approx((40, 56))


@pytest.mark.parametrize(
    'name, size, least', [('seg lspt', (31, 90), 32), ('seg none', (90, 8), 32)]
)
def test_too_small_for_the_model(served, name, size, least):
    with pytest.raises(InputError, match=f'{size[1]} x {size[0]} pixels.*at least {least}'):
        served.predict(name, photo(*size))
    served.predict(name, photo(32, 32))


def test_names(served):
    assert served.names == [f'{task} {n}' for task in ('seg', 'cls') for n in METHODS]
    assert served.task('seg vpt').dense and not served.task('cls vpt').dense
    with pytest.raises(InputError, match="no model 'dogs'; there are seg lspt"):
        served.predict('dogs', photo(40, 56))


# ---- what is refused --------------------------------------------------------------------------


def test_another_vit(made, tmp_path):
    source = sources_of(made, 'seg', 'prompts')[0]
    other = write_vit(tmp_path / 'other.pth', seed=3)
    with pytest.raises(InputError, match='lspt.pth.*another ViT'):
        ServedModels([source], pretrained=str(other))


def test_two_of_one_name(made):
    source = sources_of(made, 'cls', 'full')[0]
    with pytest.raises(InputError, match='two models are called'):
        ServedModels([source, source])


# ---- where they come from ---------------------------------------------------------------------


def test_a_work_dir(tmp_path):
    folder = tmp_path / 'lspt'
    folder.mkdir()
    (folder / 'a.py').touch()
    for i in (2, 4):
        torch.save({'state_dict': {}, 'meta': {'iter': i, 'epoch': 0}}, folder / f'iter_{i}.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_4.pth'))
    expected = (str(folder / 'a.py'), str(folder / 'iter_4.pth'))
    assert named_sources([], [f'mine={folder}']) == [('mine', *expected)]
    assert named_sources([], [str(folder)]) == [('lspt', *expected)]
    (folder / 'iter_4.pth').write_bytes(b'torn')
    assert named_sources([], [str(folder)])[0].checkpoint == str(folder / 'iter_2.pth')


def test_a_work_dir_that_cannot_be_served():
    with pytest.raises(InputError, match='--run x: .*no such folder'):
        named_sources([], ['x=nowhere'])


def test_pairs(tmp_path):
    for name in ('one', 'two'):
        torch.save({}, tmp_path / f'{name}.pth')
    one, two = (str(tmp_path / f'{name}.pth') for name in ('one', 'two'))
    assert named_sources(['x/a.py', one, 'b.py', two], []) == [
        ('a', 'x/a.py', one), ('b', 'b.py', two)
    ]
    assert [s.name for s in named_sources(['a.py', one, 'a.py', two], [])] == ['a (one)', 'a (two)']
    for pairs, words in (
        (['a.py'], 'alone'), ([], 'no model'),
        (['a.py', one, 'a.py', one], 'two models are called'),
    ):
        with pytest.raises(InputError, match=words):
            named_sources(pairs, [])


def test_a_file_by_path_predicts_the_same(served, both, tmp_path):
    """From the file on, as mmseg reads it itself."""
    from mmseg.apis import inference_model, init_model

    save_image(tmp_path / 'a.png', 40, 56)
    source = both[0]
    cfg = Config.fromfile(source.config)
    init_default_scope('mmseg')
    model = init_model(cfg, source.checkpoint, device='cpu')
    model.cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    expected = inference_model(model, str(tmp_path / 'a.png')).pred_sem_seg.data[0].numpy()
    found = served.predict(source.name, read_image(tmp_path / 'a.png').image)
    assert np.array_equal(found.labels, expected)
