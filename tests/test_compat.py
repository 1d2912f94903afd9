"""Each repair: it acts on its fault, and only there.

Faults are staged in subprocesses, by packages that shadow the real ones on ``PYTHONPATH``.
"""

import io
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer

from lspt_mm import _compat
from lspt_mm.utils import safe_load as plain_checkpoints


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def run_beside(root, code):
    """What ``code`` prints in a fresh Python that finds packages in ``root`` first."""
    return completed_beside(root, code).stdout.strip()


def completed_beside(root, code):
    checkout = os.path.dirname(os.path.dirname(_compat.__file__))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(root), checkout]), OMP_NUM_THREADS='1')
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        capture_output=True, text=True, env=env, cwd=root,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def metadata(name, version):
    """Name and text of the file that makes a distribution count as installed."""
    path = f'{name.replace("-", "_")}-{version}.dist-info/METADATA'
    return {path: f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'}


# --- torchvision


BROKEN = {
    'torchvision/__init__.py': """
        import torch
        from torchvision import ops

        half_way = ops

        @torch.library.register_fake('torchvision::nms')
        def fake_nms(dets, scores, iou_threshold):
            return dets

        @torch.library.register_fake('torchvision::qnms')
        def fake_qnms(dets, scores, iou_threshold):
            return dets

        assert half_way is ops and [key for key in globals() if key == 'ready'] == []
        ready = True
    """,
    'torchvision/ops.py': """
        import torch
        def nms(*args):
            return torch.ops.torchvision.nms(*args)
    """,
}
BREAK = """
    try:
        import torchvision
    except RuntimeError as error:
        print('broken:', error)
"""
USE_TORCHVISION = """
    import lspt_mm
    from lspt_mm import _compat
    import torch, torchvision, torchvision.ops
    print(torchvision.ops.__name__, _compat._torchvision_schemas is not None)
    print(torchvision.ready, torchvision.ops is sys.modules['torchvision.ops'])
    try:
        torchvision.ops.nms(torch.rand(1, 4), torch.rand(1), 0.5)
    except NotImplementedError:
        print('still not there')
"""


@pytest.mark.parametrize('first', ['', BREAK], ids=['lspt_mm first', 'torchvision first'])
def test_torchvision_without_operators(first, tmp_path):
    write(tmp_path, BROKEN)
    code = 'import sys\n' + textwrap.dedent(first) + textwrap.dedent(USE_TORCHVISION)
    assert run_beside(tmp_path, code).splitlines() == [
        *(['broken: operator torchvision::nms does not exist'] if first else []),
        'torchvision.ops True',
        'True True',
        'still not there',
    ]


@pytest.mark.slow
def test_whole_torchvision_is_left_alone(tmp_path):
    write(tmp_path, {'torchvision/__init__.py': 'token = object()\n'})
    out = run_beside(
        tmp_path,
        """
        import torchvision
        token = torchvision.token
        import lspt_mm
        from lspt_mm import _compat
        import torch, torchvision
        print(torchvision.token is token, _compat._torchvision_schemas)
        print(hasattr(torch.ops.torchvision, 'nms'))
        """,
    )
    assert out.splitlines() == ['True None', 'False']


def test_other_faults_of_torchvision_are_not_hidden(tmp_path):
    write(tmp_path, {'torchvision/__init__.py': "raise RuntimeError('wrong CUDA')\n"})
    code = """
        import lspt_mm
        for _ in range(2):
            try:
                import torchvision
            except RuntimeError as error:
                print(error)
    """
    assert run_beside(tmp_path, code).splitlines() == ['wrong CUDA'] * 2


# --- mmcv.ops

LITE = {
    'mmcv/__init__.py': '',
    'mmcv/ops/__init__.py': """
        import importlib
        ext = importlib.import_module('mmcv._ext')
        for name in ('nms', 'roi_align_forward'):
            assert hasattr(ext, name)

        def nms(*args):
            return ext.nms(*args)

        def in_python(x):
            return x + 1

        def get_compiler_version():
            return ext.get_compiler_version()
    """,
}
USE_OPS = """
    import lspt_mm, sys
    print('mmcv' in sys.modules)
    try:
        from mmcv.ops import nms, in_python, get_compiler_version
    except ModuleNotFoundError as error:
        print(error)
        sys.exit()
    print(in_python(1), get_compiler_version())
    try:
        print(nms(1))
    except ValueError as error:
        print(error)
"""


@pytest.mark.parametrize('before', [False, True], ids=['lspt_mm first', 'mmcv first'])
def test_mmcv_lite_imports_and_complains_when_called(before, tmp_path):
    write(tmp_path, {**LITE, **metadata('mmcv-lite', '2.1.0')})
    code = ('import mmcv\n' if before else '') + textwrap.dedent(USE_OPS)
    lazy, python, complaint = run_beside(tmp_path, code).splitlines()
    assert lazy == str(before)  # importing lspt_mm imports nothing of mmcv
    assert python == '2 n/a'
    assert "'nms'" in complaint and 'mmcv-lite' in complaint


@pytest.mark.slow
def test_compiled_operators_win(tmp_path):
    ext = """
        def nms(*args):
            return 'compiled'

        roi_align_forward = nms

        def get_compiler_version():
            return 'gcc'
    """
    write(tmp_path, {**LITE, 'mmcv/_ext.py': ext, **metadata('mmcv-lite', '2.1.0')})
    assert run_beside(tmp_path, USE_OPS).splitlines() == ['False', '2 gcc', 'compiled']


@pytest.mark.slow
@pytest.mark.skipif(_compat._is_installed('mmcv-lite'), reason='mmcv-lite is installed')
def test_other_mmcv_is_left_alone(tmp_path):
    write(tmp_path, LITE)
    assert run_beside(tmp_path, USE_OPS).splitlines() == ['False', "No module named 'mmcv._ext'"]
    assert not any(isinstance(f, _compat._ExtFinder) for f in sys.meta_path)


def test_both_model_zoos_can_be_imported(tmp_path):
    code = """
        import sys, lspt_mm
        print([m for m in ('mmseg', 'mmpretrain', 'mmcv') if m in sys.modules])
        import lspt_mm.models, mmseg.models, mmpretrain.models
        import mmseg.datasets, mmpretrain.datasets
        from mmengine.logging import print_log
        print_log('good')
    """
    done = completed_beside(tmp_path, code)
    # No line about an optional part that is missing, on either stream.
    assert done.stdout.splitlines() == ['[]', 'good']
    assert 'MultiScaleDeformableAttention' not in done.stderr


# --- resume

TRAIN_AND_RESUME = """
    import lspt_mm
    import numpy as np, torch
    from mmengine.evaluator import BaseMetric, Evaluator
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Toy(BaseModel):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            y = self.layer(torch.stack(inputs))
            return dict(loss=y.square().mean()) if mode == 'loss' else list(y)

    class Metric(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results.append(1)

        def compute_metrics(self, results):
            return dict(score=np.float32(0.5), count=np.int64(3))

    def train(iterations, resume):
        data = [dict(inputs=torch.ones(2), data_samples=torch.zeros(1)) for _ in range(4)]
        loader = dict(batch_size=2, dataset=data, num_workers=0)
        runner = Runner(
            Toy(), 'work',
            train_dataloader=dict(loader, sampler=dict(type='InfiniteSampler')),
            val_dataloader=dict(loader, sampler=dict(type='DefaultSampler')),
            val_evaluator=Evaluator(Metric()), val_cfg={},
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=2),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
                dict(type='PolyLR', by_epoch=False, begin=2, end=8, eta_min=0.0),
                dict(type='MultiStepLR', by_epoch=False, milestones=[100]),
            ],
            default_hooks=dict(checkpoint=dict(
                type='CheckpointHook', by_epoch=False, interval=2, save_best='score',
                rule='greater')),
            resume=resume, experiment_name=str(resume))
        runner.train()
        return runner

    train(4, False)
    runner = train(6, True)
    print(runner.iter, len(runner.message_hub.get_scalar('train/loss').data[0]))
    print(runner.optim_wrapper.optimizer.state_dict()['state'][0]['step'].item())
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Work folder and output of a run that was resumed, on whatever stack is installed."""
    folder = tmp_path_factory.mktemp('resume')
    return folder / 'work', run_beside(folder, TRAIN_AND_RESUME).splitlines()


@pytest.mark.slow
def test_mmengine_resumes(trained):
    # Everything went on where it stopped: losses and AdamW's steps are those of both parts.
    assert trained[1][-2:] == ['6 6', '6.0']


@pytest.fixture
def no_other_globals():
    """Torch as it comes, without what an import of lspt_mm may have allowed."""
    known = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(known)


@pytest.mark.slow
def test_mmengines_checkpoint_is_read_safely(trained, no_other_globals):
    path = trained[0] / 'iter_4.pth'
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    with plain_checkpoints.allow_mmengine_checkpoints():
        safe = torch.load(path, weights_only=True)
    everything = torch.load(path, weights_only=False)
    history, expected = (c['message_hub']['log_scalars']['train/loss'] for c in (safe, everything))
    np.testing.assert_array_equal(history.data[0], expected.data[0])
    assert history.statistics('mean', 2) == expected.statistics('mean', 2)
    assert safe['message_hub']['runtime_info']['best_score'] == 0.5
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


class Calls:
    """Pickles into a call of ``function`` when it is read."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'evil',
    [
        Calls(os.system, 'exit 1'),
        Calls(eval, '1'),
        Calls(getattr, HistoryBuffer, '__init__'),
        Calls(getattr, HistoryBuffer, '__setstate__'),
        Calls(getattr, torch.Tensor, 'min'),
        Calls(getattr, np.ndarray, 'tofile'),
    ],
    ids=['system', 'eval', 'init', 'setstate', 'other-owner', 'other-method'],
)
def test_anything_else_is_still_refused(evil):
    file = io.BytesIO()
    torch.save({'state_dict': {}, 'meta': evil}, file)
    file.seek(0)
    with plain_checkpoints.allow_mmengine_checkpoints(), pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)


def test_repair_of_resume_is_for_the_original_mmengine_only(monkeypatch, no_other_globals):
    monkeypatch.setattr(_compat, '_is_installed', lambda name: name == 'onedl-mmengine')
    _compat.repair_resume()
    assert torch.serialization.get_safe_globals() == []
    monkeypatch.setattr(_compat, '_is_installed', lambda name: name == 'mmengine')
    _compat.repair_resume()
    allowed = set(torch.serialization.get_safe_globals())
    assert allowed == set(plain_checkpoints.mmengine_checkpoint_globals())


def test_allowing_for_a_while_forgets_nothing(no_other_globals):
    torch.serialization.add_safe_globals(plain_checkpoints.mmengine_checkpoint_globals())
    before = set(torch.serialization.get_safe_globals())
    with plain_checkpoints.allow_mmengine_checkpoints():
        pass
    assert set(torch.serialization.get_safe_globals()) == before


# --- when


@pytest.mark.parametrize('first', ['lspt_mm', 'mmengine', 'mmengine.config'])
def test_mmengine_is_repaired_in_any_order(first, tmp_path):
    code = f"""
        import sys
        import {first}
        print('mmengine' in sys.modules)
        import lspt_mm
        import mmengine.logging
        from mmengine.config import Config
        from mmengine.fileio import get_file_backend
        cfg, _ = Config._get_cfg_path('lspt_mm::lspt_upernet_ade20k.py', 'mine.py')
        print(cfg.endswith('configs/lspt_upernet_ade20k.py'))
        print(type(get_file_backend(backend_args=dict(backend='lspt_mm.images'))).__module__)
        print(hasattr(mmengine.logging.print_log, '__wrapped__'))
    """
    imported, *repaired = run_beside(tmp_path, code).splitlines()
    assert imported == str(first != 'lspt_mm')
    assert repaired == ['True', 'lspt_mm.utils.image_backend', 'True']


def test_repaired_libraries_keep_their_own_loaders(tmp_path):
    write(tmp_path, {'torchvision/__init__.py': 'import importlib.resources\n',
                     'torchvision/words.txt': 'read'})
    code = """
        import importlib.resources, importlib.util, sys
        import lspt_mm
        spec = importlib.util.find_spec('torchvision')
        print(spec.origin == spec.loader.get_filename(), 'torchvision' in sys.modules)
        import torchvision
        print(type(torchvision.__loader__).__name__, type(torchvision.__spec__.loader).__name__)
        print(importlib.resources.files('torchvision').joinpath('words.txt').read_text())
        print(importlib.util.find_spec('no_such_package_of_mine'))
    """
    assert run_beside(tmp_path, code).splitlines() == [
        'True False', 'SourceFileLoader SourceFileLoader', 'read', 'None'
    ]


def test_a_library_that_is_not_installed_is_not_found(tmp_path):
    code = """
        import importlib.util, sys
        sys.path = [path for path in sys.path if 'site-packages' not in path]
        sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]
        import lspt_mm
        print([importlib.util.find_spec(name) for name in ('torchvision', 'mmcv', 'mmengine')])
    """
    assert run_beside(tmp_path, code) == '[None, None, None]'


# --- configs


def test_applying_twice_changes_nothing():
    import mmengine.logging
    from mmengine.config import Config

    finders, get_cfg_path = list(sys.meta_path), Config._get_cfg_path
    print_log = mmengine.logging.print_log
    _compat.apply()
    assert sys.meta_path == finders and Config._get_cfg_path is get_cfg_path
    assert mmengine.logging.print_log is print_log
