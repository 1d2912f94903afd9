"""Count the FLOPs and parameters of a model."""

import copy
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import torch
from mmengine.config import Config
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

from lspt_mm.engine.hooks.trainable_report_hook import count_parameters
from lspt_mm.engine.runner import prepare_for_cpu
from lspt_mm.errors import InputError
from lspt_mm.tasks import task_of

_aten = torch.ops.aten
#: PyTorch's formulas, and those of the CPU's fused attention, which it lacks.
FORMULAS = dict(flop_registry)
FORMULAS[_aten._scaled_dot_product_flash_attention_for_cpu] = sdpa_flop
FORMULAS[_aten._scaled_dot_product_flash_attention_for_cpu_backward] = sdpa_backward_flop


class _Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.flops: Dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in FORMULAS:
            name = packet.__name__
            flops = FORMULAS[packet](*args, **kwargs, out_val=out)
            self.flops[name] = self.flops.get(name, 0) + flops
        return out


def count_flops(run: Callable[[], Any]) -> Dict[str, int]:
    """FLOPs of all matrix products, convolutions and attention in ``run()``, by operation.

    A product of (m, k) and (k, n) has 2 m k n; element-wise operations are left out, as is usual.
    A backward pass in ``run`` counts too. (PyTorch's ``FlopCounterMode`` fails where a module takes
    a parameter, such as prompts, under ``no_grad``: it registers gradient hooks on inputs.)

    Returns:
        dict: Name of the operation to FLOPs, 2 for a multiplication and an addition.
    """
    counter = _Counter()
    with counter:
        run()
    return counter.flops


#: Parts of a segmentor and of a classifier, in the order in which an image passes them.
PARTS = ('backbone', 'neck', 'decode_head', 'head')


class Costs(NamedTuple):
    """Costs of one model.

    Attributes:
        size: Height and width of the image in pixels.
        flops: Part to the FLOPs of its forward pass on one image, in eval mode.
        trainable: Part to its number of trained parameters; a prompter is a part by itself.
        parameters: Part to its number of parameters.
    """

    size: Tuple[int, int]
    flops: Dict[str, int]
    trainable: Dict[str, int]
    parameters: Dict[str, int]


def model_costs(cfg: Config, size: Optional[Tuple[int, int]] = None) -> Costs:
    """Build the model of ``cfg``, with a random ViT, and count a forward pass of one image.

    Matrix products, convolutions and attention are counted, a multiplication with its addition as
    2 FLOPs (:func:`count_flops`), in eval mode after ``PromptedViT.fuse()``. Heads that only train
    (``auxiliary_head``) are not in the FLOPs; their parameters are counted.

    Args:
        cfg: Config of a segmentation or classification run.
        size: Height and width in pixels; by default the backbone's ``img_size``.

    Raises:
        InputError: For a model that cannot be built, is of another kind (pre-training), or cannot
            take images of this size.
    """
    model = _build(cfg)
    if size is None:
        size = model.backbone.img_size
    images = torch.zeros(1, 3, *size)
    flops: Dict[str, int] = {}
    try:
        with torch.no_grad():
            if hasattr(model.backbone, 'fuse'):
                model.backbone.fuse()
            value = images
            for part in PARTS:
                module = getattr(model, part, None)
                if module is not None:
                    flops[part], value = _counted(lambda m=module, v=value: m(v))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f'the model does not take an image of {size}: {error}') from error
    counts = count_parameters(model)
    return Costs(
        tuple(size),
        flops,
        {k: v[0] for k, v in counts.items()},
        {k: v[1] for k, v in counts.items()},
    )


def _build(cfg: Config) -> nn.Module:
    kind = (cfg.get('model') or {}).get('type')
    if str(kind).rsplit('.', 1)[-1] not in ('EncoderDecoder', 'ImageClassifier'):
        raise InputError(f'a model of type {kind}: expected EncoderDecoder or ImageClassifier')
    cfg = copy.deepcopy(cfg)  # the caller's stays as it is
    cfg.launcher = 'none'
    prepare_for_cpu(cfg)
    cfg.model.backbone.update(pretrained=None, init_cfg=None)
    try:
        return task_of(cfg).build(cfg).eval()
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise InputError(f'the model cannot be built: {error}') from error


def _counted(run: Callable):
    """FLOPs of ``run()``, and what it returns."""
    kept = []
    flops = sum(count_flops(lambda: kept.append(run())).values())
    return flops, kept[0]
