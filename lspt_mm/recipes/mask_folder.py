"""Configs of runs on your own images and masks, with defaults that depend on the data's size."""

import logging
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple, Union

from lspt_mm.errors import InputError
from lspt_mm.recipes.arguments import check_values, given_values, taken_arguments
from lspt_mm.recipes.balance import BALANCE, class_weights
from lspt_mm.recipes.folders import masks_of, usual_size
from lspt_mm.recipes.pipelines import LOAD_TEST, scales_and_flips
from lspt_mm.recipes.segmentation import (
    METHODS,
    ramp_and_decay,
    tuned_keys,
    tuned_vit,
    whole_patches,
)

#: Upper limit of the longer side; practically none.
_ANY = 1 << 20
#: Values of ``head``.
HEADS = ('linear', 'light', 'upernet', 'paper')
#: ``balance=sampling`` repeats images of classes that a smaller share of the images has (ours).
_SEEN_IN = 0.3
#: Directions and probabilities of each `flip`.
FLIPS = {
    'horizontal': dict(prob=0.5),
    'both': dict(prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    'none': None,
}


@dataclass
class MaskRun:
    """The arguments of ``configs/maskfolder/transfer.py``; None is derived from the others.

    Attributes:
        data (str): Folder that ``own_masks.py`` wrote.
        method (str): A method of ``configs/_base_/prompters``, or a baseline.
        pretrained (str): The ViT's weights: dinov3, dinov2, siglip2, pe, ``timm:NAME``, a file or
            a URL.
        model (str, optional): timm's name of the ViT in a file whose tensors do not identify it.
        arch (str or dict, optional): The ViT of a file, of a size that mmpretrain has no ViT of,
            as ``PromptedViT`` takes it.
        patch_size (int, optional): Of the ViT; by default the name's or the file's.
        crop (int, optional): Side of the training crops and of the test's windows in pixels, a
            multiple of the patch size. By default 512, or the multiple below it.
        short_side (int, optional): Images are resized so that their shorter side is this long,
            keeping the aspect ratio. By default half of it, but one to two crops; 0 leaves them
            as they are.
        mode (str): Test in 'slide' windows of ``crop``, or the image as a 'whole'.
        iters (int): Training iterations. By default those of 60 epochs, but 1,000 to 20,000.
        batch_size (int): Images in an iteration, at least 2 (the head normalises over them).
        num_tokens (int): P. By default the method's own on ADE20K, but no more than a tenth of a
            crop's patches.
        rank (int): Of LoRA, BPT, Rein, VAPT and low-rank LSPT; by default the method's own.
        head (str): 'linear', a layer on each patch's features of four blocks; 'light', SegFormer's
            all-MLP head; 'upernet'. All start from logistic regression on frozen features
            (``LinearBaselineHook``): the latter two have the linear layer in parallel. 'paper' is
            a randomly initialised UPerNet with an auxiliary head, as in the published protocols.
        channels (int): Width of UPerNet and the light head.
        balance (str): For classes of few pixels: 'weights' in the loss, 'sampling' of images and
            crops that have them, 'dice' loss beside cross-entropy, or 'none'. By default
            'weights', the best on the validation images of DRIVE and CrackForest
            (docs/results.md); 'none' with ``head='paper'``.
        lr (float): Learning rate of the head (AdamW). By default 3e-3, for ``method=full`` 1e-4.
            On CamVid 1e-2 was best of three, with a narrow head; the default is
            more cautious, for wider ones.
        prompt_lr (float): Learning rate of what is trained in the ViT. By default the same, for
            biases, LoRA and the last blocks their own (``lspt_mm.recipes.METHODS``).
        linear_lr (float): Learning rate of the fitted layer.
        flip (str): 'horizontal', 'both' (for images without a fixed up direction), or 'none'.
        workers (int): Processes that load images.
        seed (int): Of the run.
    """

    data: str = 'data/mine'
    method: str = 'lspt'
    pretrained: str = 'timm:vit_small_patch16_224.dino'
    model: Optional[str] = None
    arch: Union[str, dict, None] = None
    patch_size: Optional[int] = None
    crop: Optional[int] = None
    short_side: Optional[int] = None
    mode: str = 'slide'
    iters: Optional[int] = None
    batch_size: int = 8
    num_tokens: Optional[int] = None
    rank: Optional[int] = None
    head: str = 'upernet'
    channels: int = 256
    balance: Optional[str] = None
    lr: Optional[float] = None
    prompt_lr: Optional[float] = None
    linear_lr: float = 1e-4
    flip: str = 'horizontal'
    workers: int = 4
    seed: int = 0

    def __post_init__(self):
        from lspt_mm.recipes.vits import vit_of

        self._check()
        if self.balance is None:
            self.balance = 'none' if self.head == 'paper' else 'weights'
        self.vit = vit_of(self.pretrained, self.arch, self.patch_size, self.model)
        self.crop = whole_patches(self.crop, self.vit.patch_size)
        self.backbone = self._backbone()
        if self.lr is None:
            self.lr = 1e-4 if self.method == 'full' else 3e-3
        if self.prompt_lr is None:
            method = METHODS[self.method]
            own = method.prompter is None and self.method != 'full'
            self.prompt_lr = method.lr if own else self.lr

    def read_data(self) -> None:
        """Read what the folder ``data`` holds, and derive ``short_side`` and ``iters`` from it.

        Raises:
            InputError: If the folder was not prepared.
        """
        from mmengine.logging import print_log

        self.about = masks_of(self.data)
        height, width = self._image_size = usual_size(self.data)
        half = min(height, width) // 2
        if self.short_side is None:
            self.short_side = min(max(half, self.crop), 2 * self.crop)
        if 0 < self.short_side < half:
            print_log(
                f'images of {width}x{height} pixels are shrunk to a shorter side of '
                f'{self.short_side}: objects of a few pixels disappear. short_side={half} keeps '
                'them, at the cost of more windows',
                logger='current', level=logging.WARNING,
            )
        if self.iters is None:
            rounds = 60 * self.about['images']['train'] / self.batch_size
            self.iters = int(min(max(round(rounds, -2), 1000), 20000))

    def _check(self) -> None:
        self.data, self.pretrained = str(self.data), str(self.pretrained)
        check_values(
            given_values(self),
            dict(method=METHODS, head=HEADS, balance=BALANCE, mode=('slide', 'whole'), flip=FLIPS),
            dict(batch_size=2, channels=1, workers=0, seed=0, crop=32, short_side=0, iters=1,
                 num_tokens=1, rank=1, patch_size=1),
            ('lr', 'prompt_lr', 'linear_lr'),
        )

    # ---- the model --------------------------------------------------------------------------

    def _backbone(self) -> Dict[str, Any]:
        """Config of the backbone, with the method's prompter or LoRA."""
        depth = self.vit.measures['num_layers']
        # Blocks 4, 6, 8 and 12 of 12, in proportion.
        out_indices = tuple(round(depth * part) - 1 for part in (1 / 3, 1 / 2, 2 / 3, 1))
        if len(set(out_indices)) < 4 or out_indices[0] < 0:
            raise InputError(f'{self.pretrained}: {depth} blocks, expected 4, or at least 6')
        return dict(
            out_indices=out_indices,
            **tuned_vit(self.vit, self.method, self.crop, self.num_tokens, self.rank),
        )

    def config(self) -> Dict[str, Any]:
        """The run's config, without the data."""
        from lspt_mm.recipes.vits import name_of  # imports torch

        window = (self.crop, self.crop)
        stride = (max(1, self.crop * 2 // 3),) * 2
        test = dict(mode='whole') if self.mode == 'whole' else dict(
            mode='slide', crop_size=window, stride=stride
        )
        return dict(
            work_dir=f'work_dirs/maskfolder/{self.method}_{name_of(self.pretrained)}_'
                     f'{self.about["name"]}',
            model=dict(
                data_preprocessor=dict(
                    size=window, mean=list(self.vit.mean), std=list(self.vit.std)
                ),
                backbone=dict(
                    _delete_=True, out_type='featmap', final_norm=False, **self.backbone
                ),
                **self._neck_and_heads(),
                test_cfg=dict(_delete_=True, **test),
            ),
            optim_wrapper=dict(
                optimizer=dict(lr=self.lr), paramwise_cfg=dict(custom_keys=self._rates())
            ),
            randomness=dict(seed=self.seed),
            **self._schedule(),
        )

    def _schedule(self) -> Dict[str, Any]:
        baseline = dict(start=self.head != 'paper')
        if self.head == 'linear' and self.method == 'frozen':  # a fit, nothing is trained
            return dict(
                param_scheduler=[],
                train_cfg=dict(_delete_=True, type='lspt_mm.LinearProbeLoop', max_epochs=1),
                default_hooks=dict(
                    linear_baseline=baseline, checkpoint=dict(by_epoch=True, interval=1)
                ),
                log_processor=dict(by_epoch=True),
            )
        # Five validations, or as many as take a tenth of the time.
        times = max(1, min(5, int(0.1 * self.iters / self._validation_cost())))
        interval = -(-self.iters // times)
        lines = dict(interval=min(50, max(1, self.iters // 20)))
        return dict(
            param_scheduler=ramp_and_decay(self.iters, self.iters // 10),
            train_cfg=dict(max_iters=self.iters, val_interval=interval),
            default_hooks=dict(
                linear_baseline=baseline, logger=lines, run_log=lines,
                checkpoint=dict(interval=interval),
            ),
        )

    def _validation_cost(self) -> float:
        """Roughly the number of training iterations that take as long as a validation."""
        height, width = self._image_size
        scale = self.short_side / min(height, width) if self.short_side else 1.0
        windows = scale * scale * height * width / self.crop**2
        if self.mode == 'slide':  # they overlap by a third
            windows *= 9 / 4
        # A step runs forward and backward, and forward again where activations are recomputed.
        return self.about['images']['val'] * max(1.0, windows) / (3 * self.batch_size)

    def _neck_and_heads(self) -> Dict[str, Any]:
        classes, width = len(self.about['classes']), self.vit.measures['embed_dims']
        maps, slim, losses = [width] * 4, [self.channels] * 4, self._losses()
        if self.head == 'paper':
            return dict(
                neck=dict(embed_dim=width),
                decode_head=dict(in_channels=maps, channels=self.channels, num_classes=classes,
                                 loss_decode=losses),
                auxiliary_head=dict(
                    in_channels=width, channels=max(1, self.channels // 2), num_classes=classes
                ),
            )
        norm = dict(norm_cfg=dict(type='SyncBN', requires_grad=True))
        scales = [4, 2, 1, 0.5]
        neck, head = {
            'linear': (None, dict(
                _delete_=True, type='lspt_mm.LinearSegHead', in_channels=maps, align_corners=False,
            )),
            'light': (
                dict(type='MultiLevelNeck', in_channels=maps, out_channels=self.channels,
                     scales=scales, **norm),
                dict(_delete_=True, type='lspt_mm.SegformerHead', in_channels=slim,
                     in_index=[0, 1, 2, 3], channels=self.channels, dropout_ratio=0.1,
                     align_corners=False, linear_in_channels=maps, **norm),
            ),
            'upernet': (
                dict(type='Feature2Pyramid', embed_dim=width, rescales=scales, **norm),
                dict(in_channels=maps, channels=self.channels, linear_in_channels=maps),
            ),
        }[self.head]
        return dict(
            neck=dict(_delete_=True, type='lspt_mm.Standardize', in_channels=maps, neck=neck),
            decode_head=dict(head, num_classes=classes, loss_decode=losses),
            auxiliary_head=None,
        )

    def _losses(self) -> Any:
        """Config of the head's losses."""
        plain = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)
        if self.balance == 'weights':
            plain['class_weight'] = class_weights(self.about['pixels'])
        return [plain, dict(type='lspt_mm.DiceLoss')] if self.balance == 'dice' else plain

    def _rates(self) -> Dict[str, dict]:
        """Learning rates other than that of the head."""
        keys = tuned_keys(self.method, self.prompt_lr / self.lr if self.lr else 1.0)
        if self.head != 'paper':
            fitted = 'conv_seg' if self.head == 'linear' else 'linear'
            keys[f'decode_head.{fitted}'] = dict(
                lr_mult=self.linear_lr / self.lr if self.lr else 1.0
            )
        return keys

    # ---- the data ---------------------------------------------------------------------------

    def training_data(self, dataset: dict) -> dict:
        """The training data set, with ``balance``."""
        if self.balance != 'sampling':
            return dataset
        return dict(type='ClassBalancedDataset', dataset=dataset, oversample_thr=_SEEN_IN)

    def pipelines(self) -> Tuple[List[dict], List[dict], List[dict]]:
        """Transforms of training, of test, and of test with augmentation."""
        labels = dict(type='lspt_mm.LoadSegLabels', num_classes=len(self.about['classes']))
        crop, side = self.crop, self.short_side
        train = [dict(type='lspt_mm.LoadImage'), labels]
        resize = []
        if side:
            scale = (_ANY, side)
            train.append(dict(
                type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True
            ))
            resize = [dict(type='Resize', scale=scale, keep_ratio=True)]
        cut = dict(type='RandomCrop', crop_size=(crop, crop), cat_max_ratio=0.75)
        if self.balance == 'sampling':
            cut.update(type='lspt_mm.RareClassCrop', pixels=self.about['pixels'])
        train.append(cut)
        if FLIPS[self.flip]:
            train.append(dict(type='RandomFlip', **FLIPS[self.flip]))
        train += [dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]
        # Labels are loaded after Resize: predictions are evaluated at the image's own size.
        pack = [labels, dict(type='PackSegInputs')]
        test = [LOAD_TEST, *resize, *pack]
        ratios = (0.75, 1.0, 1.25)
        scaled = [
            dict(type='Resize', scale=(_ANY, int(side * r)), keep_ratio=True)
            if side else dict(type='Resize', scale_factor=r, keep_ratio=True)
            for r in ratios
        ]
        return train, test, scales_and_flips(scaled, labels, self.flip != 'none')


def mask_run(**arguments) -> MaskRun:
    """The run of these arguments, before its data are read.

    Raises:
        InputError: For an unknown argument or an invalid value.
    """
    return MaskRun(**taken_arguments('maskfolder', MaskRun, arguments))


def resolve_mask_run(**defaults) -> MaskRun:
    """The run of the config being read; the config's arguments override ``defaults``.

    Raises:
        InputError: As ``mask_run``, or if the folder of the data was not prepared.
    """
    run = mask_run(**defaults)
    run.read_data()
    return run
