"""Several models on one image: the predictions of each alone, the common blocks once."""

from collections import Counter

import numpy as np
import pytest
import torch
from miniatures import write_classification, write_segmentation
from served_miniatures import build, child_config, save

from lspt_mm.apis import MultiTask, init_model
from lspt_mm.apis.predict import image_pipeline, predict_image
from lspt_mm.errors import InputError
from lspt_mm.models.prompt_sets import bytes_held

#: Prompter and ``tune``: late prompts of two methods, prompts from the first block, LoRA, none.
KINDS = {
    'late': ({'type': 'VPT', 'num_tokens': 3, 'deep': True, 'start_block': 3}, 'prompts'),
    'later': ({'type': 'LSPT', 'num_tokens': 2, 'start_block': 4}, 'prompts'),
    'first': ({'type': 'GatedPrompt', 'num_tokens': 2}, 'prompts'),
    'lora': (None, 'lora-2'),
    'frozen': (None, 'nothing'),
    'last': (None, 'partial-1'),
}
#: The miniature ViT has four blocks; of the last one not all need be computed.
DEPTHS = {'late': 2, 'later': 3, 'first': 0, 'lora': 0, 'frozen': 3, 'last': 3}


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tasks')
    found = {}
    for task, write in (('seg', write_segmentation), ('cls', write_classification)):
        base = folder / task
        base.mkdir()
        mini = write(base)
        for seed, (kind, (prompter, tune)) in enumerate(KINDS.items()):
            name = f'{task} {kind}'
            tuned = f"model['backbone'].update(tune={tune!r})\n"
            config = child_config(mini.config, f'{task}_{kind}', prompter, tuned)
            found[name] = config, save(build(config, seed), base / f'{kind}.pth', 'prompts')
    return found


@pytest.fixture
def photo():
    return np.random.default_rng(3).integers(0, 256, (48, 70, 3), np.uint8)


def alone(source, image):
    model = init_model(*source, device='cpu')
    return predict_image(model, image_pipeline(model.cfg)(image))


def test_predictions_are_those_of_each_model_alone(sources, photo):
    tasks = MultiTask(sources, device='cpu')
    for _ in range(2):  # nothing stays of the image before
        found = tasks(photo)
        for name, source in sources.items():
            want = alone(source, photo)
            assert np.array_equal(found[name].labels, want.labels)
            if want.scores is not None:
                assert np.array_equal(found[name].scores, want.scores)
        photo = photo[:, ::-1].copy()


def test_common_blocks_run_once(sources, photo):
    tasks = MultiTask({n: s for n, s in sources.items() if n.startswith('cls')}, device='cpu')
    assert {n.removeprefix('cls '): d for n, d in tasks.shared_blocks.items()} == DEPTHS
    runs: Counter = Counter()
    for model in tasks.models.values():
        plain = type(model.backbone).plain_block

        def count(number, x, rope, vit=model.backbone, plain=plain):
            runs[number] += 1
            return plain(vit, number, x, rope)

        model.backbone.plain_block = count
    tasks(photo)
    assert runs == {1: 1, 2: 1, 3: 1}


def test_one_vit_in_memory(sources):
    tasks = MultiTask(sources, device='cpu')
    models = list(tasks.models.values())
    one = sum(t.numel() * t.element_size() for t in models[0].backbone.own_tensors().values())
    saved = sum(bytes_held([model]) for model in models) - bytes_held(models)
    block = one / 4.5  # `last` has one of its own, and segmentation's position table another
    assert saved > (len(models) - 1) * one - 4 * block


def test_models_of_other_vits_stand_beside(sources, photo, tmp_path):
    from miniatures import write_vit

    config, _ = sources['cls late']
    write_vit(tmp_path / 'other.pth', seed=9)
    other = child_config(config, 'other', KINDS['late'][0],
                         f"model['backbone'].update(pretrained={str(tmp_path / 'other.pth')!r})\n")
    added = {'other': (other, save(build(other, 4), tmp_path / 'full.pth'))}
    tasks = MultiTask({**{n: sources[n] for n in ('cls late', 'cls later')}, **added}, 'cpu')
    assert tasks.shared_blocks['other'] == 0
    want = alone(added['other'], photo)
    assert np.array_equal(tasks(photo)['other'].scores, want.scores)


def test_a_model_that_is_given(sources, photo):
    config, checkpoint = sources['seg late']
    model = init_model(config, checkpoint, device='cpu')
    want = alone(sources['seg late'], photo)
    assert np.array_equal(MultiTask({'mine': model})(photo)['mine'].labels, want.labels)
    with torch.no_grad():  # and it is as before
        assert 'forward' not in vars(model.backbone)
    for models in ({}, [('a', 'b')], {'a': 'b'}, {'a': ('x', 'y', 'z')},
                   {'a': torch.nn.Linear(2, 2)}):
        with pytest.raises(InputError, match='MultiTask: .*expected a'):
            MultiTask(models)
    with pytest.raises(InputError, match='12 x 9 pixels, .* are too few'):
        MultiTask({'mine': model})(photo[:9, :12])
    for image in (photo[..., 0], photo / 255.0, photo.transpose(2, 0, 1)):
        with pytest.raises(InputError, match=r'expected uint8 \(H, W, 3\)'):
            MultiTask({'mine': model})(image)
