"""Export models by torch.export or to ONNX, and compare the files with PyTorch."""

import contextlib
import logging
import os
import tempfile
import warnings
from numbers import Integral
from pathlib import Path
from typing import Callable, Iterable, NamedTuple, Sequence, Tuple, Union

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from lspt_mm.deployment.exportable import Exportable
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import check_writable
from lspt_mm.utils.installed import require

#: Version of the operators in ONNX files; onnxruntime 1.17 (2024) and later run it.
OPSET = 20
#: Largest accepted difference, in units of the largest logit.
CLOSE = 1e-4


def export_program(
    model: Exportable, size: Union[int, Sequence[int]] = (224, 224), dynamic: bool = True
) -> ExportedProgram:
    """Export a model by ``torch.export``, on the device it is on.

    What is the same for every image becomes a constant. Prompts that are only keys and values thus
    add nothing but their share of attention to the cost of a plain ViT.

    Args:
        model: What to export.
        size: Height and width of the images it is traced with, or one number for both, multiples
            of the patch size; the only size unless ``dynamic``.
        dynamic: Whether batch, height and width may vary (height and width as multiples of the
            patch size, and at least the model's ``least_size``).

    Raises:
        InputError: For a size that is no such multiple.
    """
    patch, least = model.patch_size, model.least_size
    height, width = _sides(model, size)
    # A batch of one, or a square image, would be traced as a constraint.
    images = model.mean.new_zeros(2 if dynamic else 1, 3, height, width + patch * dynamic)
    shapes = None
    if dynamic:
        height, width = (Dim(name, min=least // patch) for name in ('height', 'width'))
        shapes = {'images': {0: Dim('batch', min=1), 2: patch * height, 3: patch * width}}
    model.fuse()
    with torch.no_grad(), _quiet():
        return torch.export.export(model, (images,), dynamic_shapes=shapes, strict=False)


def _sides(model: Exportable, size: Union[int, Sequence[int]]) -> Tuple[int, int]:
    """Height and width; InputError if they are none that the model takes."""
    patch, least = model.patch_size, model.least_size
    sides = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    if len(sides) != 2 or not all(
        isinstance(side, Integral) and side >= least and side % patch == 0 for side in sides
    ):
        raise InputError(
            f'size {size}: expected height and width, or one number for both, as multiples of '
            f'{patch}, the size of a patch, and at least {least}'
        )
    return int(sides[0]), int(sides[1])  # torch.export takes no integers of NumPy


class Exported(NamedTuple):
    """Result of an export.

    Attributes:
        difference: From PyTorch, in units of the largest logit.
        sizes: Number of image sizes compared.
        files: What was written: the file, and for ONNX of more than 1.5 GB another one with the
            weights beside it, which it names.
    """

    difference: float
    sizes: int
    files: Tuple[Path, ...]


def export_model(
    model: nn.Module,
    out: Union[str, Path],
    size: Union[int, Sequence[int], None] = None,
    dynamic: bool = True,
    preprocess: bool = True,
) -> Exported:
    """Write a tuned model as ``.onnx`` or ``.pt2``, run the file, and compare it with PyTorch.

    Args:
        model: From :func:`lspt_mm.apis.init_model`, on any device; it stays as it is.
        out: File to write. ONNX of more than 1.5 GB has its weights in ``OUT.data`` beside it.
        size: Height and width it is traced with, or one number for both; None is the backbone's
            ``img_size``.
        dynamic: Whether batch, height and width may vary.
        preprocess: Whether the file normalises images; otherwise the caller must.

    Raises:
        InputError: For another suffix, a path that cannot be written, an invalid size, packages
            that are not installed, or an output that differs from PyTorch's. A file of an earlier
            export stays then.
    """
    out = Path(os.path.expanduser(out))
    if out.suffix not in ('.onnx', '.pt2'):
        raise InputError(f'{out}: expected a name that ends in .onnx or .pt2')
    if out.is_dir():
        raise InputError(f'{out}: cannot be written, it is a folder')
    exportable = Exportable(model, preprocess=preprocess).cpu()
    height, width = _sides(exportable, size or exportable.model.backbone.img_size)
    check_writable(out.parent, str(out))
    program = export_program(exportable, (height, width), dynamic=dynamic)
    sizes = [(1, height, width)]
    if dynamic:
        least = exportable.least_size
        sizes += [(3, height, width), (2, height + least, width), (1, least, width + least)]
    # Beside the result, under its name: a large ONNX file names another one with its weights.
    with tempfile.TemporaryDirectory(prefix='.unchecked.', dir=out.parent) as folder:
        written = Path(folder) / out.name
        if out.suffix == '.onnx':
            export_onnx(program, written)
            run = run_onnx(written)
        else:
            torch.export.save(program, str(written))
            run = torch.export.load(str(written)).module()
        difference = largest_difference(exportable, run, sizes)
        if not difference <= CLOSE:  # NaN, too
            raise InputError(
                f'the exported model differs from PyTorch by {difference:.1e} of the largest logit '
                f'(at most {CLOSE} is expected); {out} is not written'
            )
        files = [path.name for path in Path(folder).iterdir() if path != written] + [out.name]
        for name in files:
            (Path(folder) / name).replace(out.with_name(name))
    return Exported(difference, len(sizes), tuple(out.with_name(name) for name in files[::-1]))


def export_onnx(program: ExportedProgram, path: Path) -> None:
    """Write an exported program as ONNX: input ``images``, output ``logits``.

    Raises:
        InputError: If the packages for it are not installed.
    """
    require('onnx', 'onnxscript')
    with _quiet():
        written = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=['images'],
            output_names=['logits'], verbose=False,
        )
        written.save(str(path))


def run_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Return a function that runs an ONNX file on the CPU, by onnxruntime.

    Raises:
        InputError: If onnxruntime is not installed.
    """
    require('onnxruntime')
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda images: torch.from_numpy(session.run(None, {'images': images.numpy()})[0])


def largest_difference(
    model: Exportable, run: Callable[[Tensor], Tensor], sizes: Iterable[Tuple[int, int, int]]
) -> float:
    """The largest difference of two runs' logits, in units of the largest logit.

    Args:
        model: As it is in PyTorch.
        run: The exported model.
        sizes: Number, height and width of images, of random numbers, to try.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    with torch.no_grad():
        for batch, height, width in sizes:
            images = torch.rand(batch, 3, height, width, generator=generator)
            images = images * 255 if model.preprocess else images * 4 - 2
            wanted = model(images)
            found.append((run(images) - wanted).abs().max() / wanted.abs().max())
    return float(torch.stack(found).max())  # NaN if one is


@contextlib.contextmanager
def _quiet():
    """Silence the exporters' remarks on every operator."""
    loggers = [logging.getLogger(name) for name in ('onnxscript', 'onnx_ir', 'torch.onnx')]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
