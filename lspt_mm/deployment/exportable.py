"""Wrap a tuned model as one traceable function from images to logits.

Shapes: B images, K classes, H and W pixels.
"""

import copy
from typing import Optional

import torch
from timm.layers import RotaryEmbeddingDinoV3
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.errors import InputError
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.tasks import takes_rgb, task_of


class Exportable(nn.Module):
    """A copy of a model in eval mode: images in, logits out.

    Normalisation by mean and deviation is part of it. Layers that cannot be traced for any image
    size are replaced by equivalent ones.

    Args:
        model: From :func:`lspt_mm.apis.init_model`, with a prompted ViT as its backbone. It stays
            as it is.
        preprocess: Whether the images are RGB values of 0 to 255; otherwise they are outputs of
            the model's data preprocessor.

    Attributes:
        patch_size (int): Height and width of images are multiples of it.
        least_size (int): Minimum height and width.

    Raises:
        InputError: If the model is of another kind.
    """

    def __init__(self, model: nn.Module, preprocess: bool = True):
        super().__init__()
        if not hasattr(model, 'cfg'):
            raise InputError(
                f'{type(model).__name__} cannot be exported: its task is not known; expected a '
                'model from lspt_mm.apis.init_model'
            )
        self.task = task_of(model.cfg)
        vit, head = getattr(model, 'backbone', None), self.task.head(model)
        if not isinstance(vit, PromptedBackbone) or not isinstance(head, nn.Module):
            raise InputError(
                f'{type(model).__name__} cannot be exported: expected a model for '
                f'{self.task.name} with a head and a prompted ViT as its backbone'
            )
        if isinstance(getattr(model, self.task.head_name, None), nn.ModuleList):
            raise InputError(f'{type(model).__name__}: models of several stages are not exported')
        self.patch_size = vit.patch_size[0]
        self.least_size = self.task.least_patches * self.patch_size
        model = copy.deepcopy(model).eval().requires_grad_(False)
        self.preprocess = preprocess
        self._take_normalization(model.data_preprocessor)
        model.data_preprocessor = None
        self.task.fold(model)
        model.backbone.merge_lora()
        if model.backbone.prompter is not None:
            model.backbone.prompter.strip()
        model.backbone = _with_patches(model.backbone, vit.patch_size)
        self.model = _for_any_size(model)

    def _take_normalization(self, preprocessor: nn.Module) -> None:
        mean = getattr(preprocessor, 'mean', torch.zeros(3))
        std = getattr(preprocessor, 'std', torch.ones(3))
        self.register_buffer('mean', mean.reshape(1, -1, 1, 1).clone())
        self.register_buffer('std', std.reshape(1, -1, 1, 1).clone())
        self.takes_rgb = takes_rgb(preprocessor)

    def fuse(self) -> None:
        """Precompute what is the same for every image; valid until the model is moved."""
        self.model.backbone.fuse()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits: (B, K, H, W) of a segmentor, (B, K) of a classifier."""
        if self.preprocess:
            if not self.takes_rgb:
                images = images.flip(1)
            images = (images - self.mean) / self.std
        return self.task.logits(self.model, images)


def _for_any_size(module: nn.Module) -> nn.Module:
    """Replace layers whose trace depends on sizes; returns ``module`` or its replacement."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return _AveragePool(module.output_size)
    if isinstance(module, RotaryEmbeddingDinoV3):
        return _AnyGrid(module)
    # By name: the heads' own, or PyTorch's.
    factor = type(module).__name__ == 'Upsample' and not module.size and module.scale_factor
    if isinstance(factor, float) and factor.is_integer():
        return _Enlarge(int(factor), module.mode, module.align_corners)
    for name, child in module.named_children():
        setattr(module, name, _for_any_size(child))
    return module


def _with_patches(module: nn.Module, patch_size) -> nn.Module:
    """Replace the convolution of a patch embedding."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == child.stride == tuple(patch_size):
            setattr(module, name, _Patches(child))
        else:
            _with_patches(child, patch_size)
    return module


class _Patches(nn.Module):
    """The convolution of a patch embedding, as one matrix product.

    In ONNX, a convolution would drop the last pixels of a size that is no multiple of the patch.
    This fails there for such a size, which in PyTorch is padded.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.kernel_size = convolution.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        (high, wide), (batch, channels, height, width) = self.kernel_size, x.shape
        x = x.reshape(batch, channels, height // high, high, width // wide, wide)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, h, w, C * patch)
        return F.linear(x, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class _AnyGrid(nn.Module):
    """timm's rotary embedding of DINOv3, whose coordinates tracing would fix to one grid."""

    def __init__(self, rope: nn.Module):
        super().__init__()
        self.rope = rope

    def get_embed(self, shape, dtype: Optional[torch.dtype] = None) -> Tensor:
        rope = self.rope
        sides = [(torch.arange(size, dtype=torch.float32) + 0.5 + rope.grid_offset) / size
                 for size in shape]
        grid = torch.stack(torch.meshgrid(sides, indexing=rope.grid_indexing), dim=-1)
        found = rope._get_pos_embed_from_coords((2 * grid - 1).flatten(0, -2))
        return torch.cat(found, dim=-1)


class _AveragePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two products with matrices made from the size.

    ONNX has no such pooling for maps of any size.
    """

    def __init__(self, output_size):
        super().__init__()
        self.output_size = nn.modules.utils._pair(output_size)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.output_size
        rows = _means(height or x.shape[2], x.shape[2], x)
        columns = _means(width or x.shape[3], x.shape[3], x)
        return rows @ x @ columns.transpose(0, 1)


def _means(bins: int, size: int, like: Tensor) -> Tensor:
    """(bins, size): row i has the mean of the positions floor(i s / b) .. ceil((i + 1) s / b)."""
    number = torch.arange(bins, device=like.device)[:, None]
    position = torch.arange(size, device=like.device)[None]
    first = number * size // bins
    end = ((number + 1) * size + bins - 1) // bins
    inside = ((position >= first) & (position < end)).to(like.dtype)
    return inside / (end - first).to(like.dtype)


class _Enlarge(nn.Module):
    """``Upsample`` by an integer factor, without floating-point sizes."""

    def __init__(self, factor: int, mode: str, align_corners):
        super().__init__()
        self.factor, self.mode, self.align_corners = factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2] * self.factor, x.shape[3] * self.factor)
        return F.interpolate(x, size, mode=self.mode, align_corners=self.align_corners)
