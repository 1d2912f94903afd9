"""Configs of runs on ADE20K with any ViT: its weights, a method, a head."""

from dataclasses import dataclass
from typing import Any, Dict, Optional, Union

from lspt_mm.checkpoints.download import existing_file
from lspt_mm.recipes.arguments import check_values, given_values, taken_arguments
from lspt_mm.recipes.segmentation import (
    METHODS,
    ramp_and_decay,
    tuned_keys,
    tuned_vit,
    whole_patches,
)
from lspt_mm.recipes.vits import vit_of

#: Values of ``head``.
HEADS = ('linear', 'upernet')
_CLASSES = 150
_NORM = dict(type='SyncBN', requires_grad=True)
_FULL_LR = 1e-4


@dataclass
class ADE20KRun:
    """The arguments of ``configs/ade20k/transfer.py``; None is derived from the others.

    Attributes:
        pretrained (str): The ViT's weights: dinov3, dinov2, siglip2, pe, ``timm:NAME``, a file or
            a URL.
        model (str, optional): timm's name of the ViT in a file whose tensors do not identify it.
        arch (str or dict, optional): As in :class:`~lspt_mm.recipes.mask_folder.MaskRun`.
        patch_size (int, optional): As in ``MaskRun``.
        method (str): As in ``MaskRun``.
        head (str): 'linear', batch norm and a 1x1 convolution on the last block's normalised
            features: DINOv3's recipe for frozen ViTs (arXiv 2508.10104, its public code: AdamW,
            1e-3, weight decay 1e-3, batch 16, 40,000 iterations, 1,500 of them warm-up, crops of
            512, scales of 0.5 to 2, flips). 'upernet', on four blocks in even steps, with the
            rates of ``configs/lspt_upernet_ade20k.py`` (ours).
        crop (int): Side of the training crops and of the test's windows in pixels; the shorter
            side of images. By default 512, or the multiple of the patch size below it.
        iters (int): Training iterations.
        batch_size (int): Images per process and iteration.
        num_tokens (int): P. By default the method's own.
        rank (int): Of LoRA, BPT, Rein, VAPT and low-rank LSPT. By default the method's own.
        lr (float): Learning rate of the head. By default 1e-3, for UPerNet 2e-4.
        prompt_lr (float): Of prompts, LoRA or the ViT's own parameters. By default the method's
            (chosen on other data, docs/results.md).
    """

    pretrained: str = 'dinov3'
    model: Optional[str] = None
    arch: Union[str, dict, None] = None
    patch_size: Optional[int] = None
    method: str = 'frozen'
    head: str = 'linear'
    crop: Optional[int] = None
    iters: int = 40000
    batch_size: int = 16
    num_tokens: Optional[int] = None
    rank: Optional[int] = None
    lr: Optional[float] = None
    prompt_lr: Optional[float] = None

    def __post_init__(self):
        self._check()
        self.vit = vit_of(str(self.pretrained), self.arch, self.patch_size, self.model)
        self.crop = whole_patches(self.crop, self.vit.patch_size)
        if self.lr is None:
            self.lr = 1e-3 if self.head == 'linear' else 2e-4
        if self.prompt_lr is None:
            self.prompt_lr = _FULL_LR if self.method == 'full' else METHODS[self.method].lr

    def _check(self) -> None:
        check_values(
            given_values(self),
            dict(method=METHODS, head=HEADS),
            dict(crop=1, iters=1, batch_size=1, num_tokens=1, rank=1, patch_size=1),
            ('lr', 'prompt_lr'),
        )

    def config(self) -> Dict[str, Any]:
        """The run's config, without the data."""
        depth, size = self.vit.measures['num_layers'], (self.crop, self.crop)
        linear = self.head == 'linear'
        outs = (depth - 1,) if linear else tuple(round(depth * k / 4) - 1 for k in (1, 2, 3, 4))
        file = existing_file(self.vit.source)
        weights = file.stem if file else self.vit.source.split(':')[-1]
        return dict(
            work_dir=f'work_dirs/ade20k/{self.method}_{self.head}_{weights}',
            model=dict(
                data_preprocessor=dict(
                    size=size, mean=list(self.vit.mean), std=list(self.vit.std)
                ),
                backbone=dict(
                    _delete_=True, out_type='featmap', final_norm=linear, out_indices=outs,
                    **tuned_vit(self.vit, self.method, self.crop, self.num_tokens, self.rank),
                ),
                **self._neck_and_heads(),
                test_cfg=dict(crop_size=size, stride=(self.crop * 2 // 3,) * 2),
            ),
            optim_wrapper=self._optim_wrapper(),
            param_scheduler=ramp_and_decay(self.iters, min(1500, self.iters // 10)),
            train_cfg=dict(max_iters=self.iters, val_interval=max(1, self.iters // 10)),
        )

    def _neck_and_heads(self) -> Dict[str, Any]:
        width = self.vit.measures['embed_dims']
        if self.head == 'upernet':
            return dict(
                neck=dict(embed_dim=width), decode_head=dict(in_channels=[width] * 4),
                auxiliary_head=dict(in_channels=width),
            )
        head = dict(
            _delete_=True, type='lspt_mm.LinearSegHead', in_channels=[width], norm_cfg=_NORM,
            dropout_ratio=0.1, num_classes=_CLASSES, align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        )
        return dict(neck=None, decode_head=head, auxiliary_head=None)

    def _optim_wrapper(self) -> Dict[str, Any]:
        rates = tuned_keys(self.method, self.prompt_lr / self.lr if self.lr else 1.0)
        optimizer = dict(lr=self.lr, weight_decay=1e-3 if self.head == 'linear' else 0.05)
        return dict(optimizer=optimizer, paramwise_cfg=dict(custom_keys=rates))


def resolve_ade20k_run(**defaults) -> ADE20KRun:
    """The run of the config being read; the config's arguments override ``defaults``.

    Raises:
        InputError: For an unknown argument or an invalid value.
    """
    return ADE20KRun(**taken_arguments('ade20k', ADE20KRun, defaults))
