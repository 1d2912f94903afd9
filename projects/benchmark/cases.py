"""Benchmark cases: one step of a ViT with a class-token head, or of a config's model."""

from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Optional

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lspt_mm import recipes
from lspt_mm.checkpoints.load_backbone import TIMM
from lspt_mm.models import PromptedViT, TimmPromptedViT
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.recipes.vits import timm_vit
from projects.benchmark.reference import reference_forward

#: Names of the methods with prompts, and LoRA.
METHODS = tuple(
    n for n, m in recipes.METHODS.items() if n == 'lora' or (m.prompter and m.tune == 'prompts')
)
#: The library's ViT with a gradient with respect to its tokens: what an input-side prompt pays.
PLAIN = 'plain'
#: After a method's name: as papers describe it.
REFERENCE = ' (reference)'


@dataclass(frozen=True)
class Case:
    """One row of a benchmark.

    Args:
        name: ``'plain'``, one of :data:`METHODS`, one followed by ``' (reference)'``; or
            where ``config`` is given, any name.
        training: Forward and backward pass (and with ``config`` the optimizer's step); otherwise
            the forward pass in eval mode.
        batch, img_size: Images (batch, 3, img_size, img_size), of random numbers.
        arch, num_tokens: Of the ViT (mmpretrain's name, or ``timm:NAME``) and its prompts; with
            ``config``, which sets them, None and 0.
        num_layers: Blocks; None is as many as ``arch`` has.
        dtype: 'fp32', or 'bf16' for autocast.
        device: 'cpu' or 'cuda'.
        with_cp, compile_blocks: As the backbone has them.
        config: The ``model`` of a config, and AdamW; its ViT is random.
    """

    name: str
    training: bool = True
    batch: int = 8
    img_size: int = 224
    arch: Any = 'base'
    num_layers: Optional[int] = None
    num_tokens: int = 100
    dtype: str = 'fp32'
    device: str = 'cpu'
    with_cp: Any = False
    compile_blocks: bool = False
    config: Optional[dict] = field(default=None, compare=False)

    @property
    def width(self) -> int:
        """D."""
        if of_timm(self.arch):
            return timm_vit(self.arch).measures['embed_dims']
        arch = VisionTransformer.arch_zoo[self.arch] if isinstance(self.arch, str) else self.arch
        return arch['embed_dims']

    def build(self) -> 'Step':
        """The model, with images for it."""
        torch.manual_seed(0)
        step = (_ViTStep if self.config is None else _ConfigStep)(self)
        if not self.training and not self.name.endswith(REFERENCE):
            step.fuse()
        return step

    def settings(self) -> dict:
        """All fields except the config, for a table."""
        return {k: v for k, v in asdict(self).items() if k != 'config'}


class Step:
    """A callable that runs one step."""

    model: nn.Module

    def __init__(self, case: Case):
        self.case = case

    def __call__(self) -> None:
        """Run a step of the case."""
        case = self.case
        with self.precision():
            if not case.training:
                with torch.no_grad():
                    self.forward()
                return
            loss = self.forward()
        loss.backward()
        self.update()

    def precision(self) -> torch.autocast:
        """The case's precision, to run in."""
        return torch.autocast(self.case.device, torch.bfloat16, enabled=self.case.dtype == 'bf16')

    def fuse(self) -> None:
        """Precompute what inference computes once."""
        with self.precision():
            for module in self.model.modules():
                if isinstance(module, PromptedBackbone):
                    module.fuse()

    def forward(self) -> Tensor:
        """Run the forward pass; returns a scalar."""
        raise NotImplementedError

    def update(self) -> None:
        """What follows the backward pass."""
        self.model.zero_grad()


class _ViTStep(Step):
    def __init__(self, case: Case):
        super().__init__(case)
        name = case.name.removesuffix(REFERENCE)
        build, plain, shape = _of_timm(case) if of_timm(case.arch) else _of_mmpretrain(case)
        self.run: Callable[[], Tensor] = lambda: self.model(self.images)[0]
        if name == PLAIN:
            self.model, features = plain(**shape)
            self.model.requires_grad_(False)
            if case.training:
                self.model.patch_embed.register_forward_hook(_ask_for_gradient)
            self.run = lambda: features(self.images)
        else:
            method = recipes.METHODS[name]
            prompter = method.benchmark_prompter
            if prompter is not None:
                prompter = dict(prompter, num_tokens=case.num_tokens)
            if method.recipe == 'bpt':
                prompter['rank'] = method.default_rank(case.num_tokens, case.width)
            self.model = build(
                prompter=prompter, tune=method.tune, with_cp=case.with_cp,
                compile_blocks=case.compile_blocks, **shape,
            )
        self.model.to(case.device).train(case.training)
        self.images = torch.randn(case.batch, 3, case.img_size, case.img_size, device=case.device)
        if case.name.endswith(REFERENCE):
            self.run = lambda: reference_forward(self.model, self.images)

    def forward(self) -> Tensor:
        return self.run().float().square().sum()


def of_timm(arch: Any) -> bool:
    """Whether ``arch`` names a model of timm."""
    return isinstance(arch, str) and arch.startswith(TIMM)


def _of_mmpretrain(case: Case) -> tuple:
    """The class with prompts, what makes the plain ViT and its features, arguments of both."""
    arch = case.arch
    if isinstance(arch, str):
        arch = VisionTransformer.arch_zoo[arch]
    if case.num_layers is not None:
        arch = {**arch, 'num_layers': case.num_layers}

    def plain(**shape):
        vit = VisionTransformer(**shape)
        return vit, lambda images: vit(images)[0]

    return PromptedViT, plain, {'arch': arch, 'img_size': case.img_size}


def _of_timm(case: Case) -> tuple:
    depth = {} if case.num_layers is None else {'depth': case.num_layers}

    def plain(**shape):
        vit = TimmPromptedViT(**shape).vit
        return vit, lambda images: vit.forward_features(images)[:, 0]

    shape = {'model': case.arch[len(TIMM) :], 'img_size': case.img_size, 'model_args': depth}
    return TimmPromptedViT, plain, shape


def _ask_for_gradient(module, inputs, output):
    if isinstance(output, Tensor):
        return output.requires_grad_()
    tokens, size = output
    return tokens.requires_grad_(), size


class _ConfigStep(Step):
    def __init__(self, case: Case):
        super().__init__(case)
        from mmengine.structures import PixelData
        from mmseg.registry import MODELS
        from mmseg.structures import SegDataSample

        from lspt_mm.engine.runner import prepare_for_cpu

        init_default_scope('mmseg')
        cfg = Config({'model': case.config, 'launcher': 'none'})
        # One process: SyncBN is BN, on a GPU as well.
        prepare_for_cpu(cfg)
        cfg.model.backbone.update(
            pretrained=None, with_cp=case.with_cp, compile_blocks=case.compile_blocks,
            img_size=case.img_size,
        )
        cfg.model.data_preprocessor = None
        self.model = MODELS.build(cfg.model).to(case.device).train(case.training)
        size = (case.img_size, case.img_size)
        self.images = torch.randn(case.batch, 3, *size, device=case.device)
        classes = self.model.decode_head.num_classes
        labels = torch.randint(classes, (case.batch, 1, *size), device=case.device)
        self.samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in labels]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4) if case.training else None

    def forward(self) -> Tensor:
        if not self.case.training:
            return self.model(self.images, mode='tensor').sum()
        losses = self.model(self.images, self.samples, mode='loss')
        return sum(v.sum() for k, v in losses.items() if 'loss' in k)

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
