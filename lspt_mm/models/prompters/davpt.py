"""Distribution-aware visual prompt tuning (DA-VPT, arXiv 2505.23694)."""

from typing import Dict, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.observed import Observed
from lspt_mm.models.ops.proxy_anchor import proxy_anchor
from lspt_mm.models.prompters.base import DeepPrompter, Training
from lspt_mm.models.prompters.class_mapping import ClassMapping, plain_layer_norm
from lspt_mm.models.prompters.class_means import class_sums, pooled
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_int, check_number


@PROMPTERS.register_module()
class DAVPT(DeepPrompter):
    r"""Deep prompts that a loss draws to the patches and class tokens of images of some classes.

    Prompts have unit length. Every class y belongs to one prompt m(y) of a guided block.
    :math:`\bar x_b` is the mean of the patches of image b that enter the block, :math:`q_b` the
    query of its class token, :math:`k(p)` the keys of the prompts:

    .. math::
        & L = L_\text{head} + \beta \, M(\bar x, p) + \lambda \, M(q, k(p)), \qquad
          s_{bk} = \sigma \cos(z_b, p_k) \\
        & M(z, p) = \frac{1}{|P^+|} \sum_{k \in P^+} \log \left(1 + \sum_{b: m(y_b) = k}
          e^{-a (s_{bk} - \delta)} \right) + \frac{1}{P} \sum_k \log \left(1 +
          \sum_{b: m(y_b) \ne k} e^{a (s_{bk} + \delta)} \right)

    :math:`P^+`: prompts with an image in the batch. That queries meet keys is our reading of the
    paper's projected prompts; in the authors' code they meet the prompts as they are, as
    :math:`\bar x` does, and the first sum is divided by P. Each loss is the mean over the guided
    blocks (ours). An image of several classes belongs to the prompt of most of them. m is k-means
    by cosine of the classes' mean features, after a layer norm without parameters: first of the
    frozen ViT's features (``PromptInitHook``), then again after passes over the data, whose steps
    give the means (ours; the authors' code makes a further pass). Each class has its own prompt if
    there are enough. A checkpoint has the first process's part of the means. The paper's attention
    mask changes only outputs of prompts, which no block reads; it is left out. The authors' trainer
    chooses the epoch on the test split; ours does not.

    Args:
        num_tokens (int): P of the blocks that are not guided. The paper's: 5 to 40.
        guided_tokens (int, optional): P of the guided blocks (10 to 40); ``num_tokens`` by default.
        first_guided (int, optional): Blocks from this one on are guided, ``start_block`` to L; by
            default the last one. The paper's: 4 to 12.
        patch_weight (float): :math:`\beta`, at least 0. The paper's: 0.01 to 0.1.
        class_weight (float): :math:`\lambda`, at least 0. The paper's: 0.01 to 0.5.
        margin (float): :math:`\delta`. The authors' code: 0.1.
        sharpness (float): a, at least 0. The authors' code: 32. The paper exchanges the two.
        scale (float): :math:`\sigma`, at least 0. The authors' code: 1 or 5.
        dynamic_kmeans (int): First pass after which m is computed again. The paper's: 1 or 10.
        dropout (float): On inserted prompts; the losses see them without.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompts (Parameter): (L'-G, P, D) for the first blocks, None if all are guided; start
            U(-v, v), v = sqrt(6 / ((P + L' - G) D)).
        guided (Parameter): (G, P, D) for the G guided blocks; the same start.
        classes (ClassMapping): m, and the sums of the pass that runs.

    Parameters in all: (L'-G) P D + G P D, each with its own P.
    """

    TRAINING_ONLY = ('dropout', 'patch_weight', 'class_weight', 'margin', 'sharpness', 'scale',
                     'dynamic_kmeans')
    TRAINING_STATE = ('classes',)
    PREPARES_FROM_ALL = True

    def __init__(
        self,
        num_tokens: int,
        guided_tokens: Optional[int] = None,
        first_guided: Optional[int] = None,
        patch_weight: float = 0.01,
        class_weight: float = 0.01,
        margin: float = 0.1,
        sharpness: float = 32.0,
        scale: float = 1.0,
        dynamic_kmeans: int = 1,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        guided_tokens = num_tokens if guided_tokens is None else guided_tokens
        first_guided = self.num_layers if first_guided is None else first_guided
        check_int('guided_tokens', guided_tokens, 1)
        check_int('first_guided', first_guided, start_block, self.num_layers)
        check_int('dynamic_kmeans', dynamic_kmeans, 1)
        check_number('margin', margin)
        weights = dict(patch_weight=patch_weight, class_weight=class_weight)
        for name, value in dict(weights, sharpness=sharpness, scale=scale).items():
            check_number(name, value, 0)
        self.first_guided = first_guided
        self.patch_weight, self.class_weight = patch_weight, class_weight
        self.margin, self.sharpness, self.scale = margin, sharpness, scale
        self.has_losses, self._in_step = bool(patch_weight or class_weight), False
        self.dynamic_kmeans = dynamic_kmeans
        first, guided = first_guided - start_block, self.num_layers - first_guided + 1
        self.prompts = _xavier(first, num_tokens, self.embed_dims) if first else None
        self.guided = _xavier(guided, guided_tokens, self.embed_dims)
        self.classes = ClassMapping(guided_tokens, self.embed_dims)

    def check_vit(self, vit: nn.Module) -> None:
        """Raise ValueError if the loss of class tokens has nothing to compare."""
        why = None if vit.num_extra_tokens else 'it has no class token'
        for number in range(self.first_guided, self.num_layers + 1):
            block = vit.block(number)
            if block is None or block.widths[0] != block.widths[1]:
                why = f'block {number} gives no queries of the width of keys'
        if self.class_weight and why:
            raise ValueError(f'DAVPT: class_weight={self.class_weight}: expected 0 here, as {why}')

    def of_block(self, l: int) -> Tensor:
        """Prompts of block l before dropout, of unit length, (P, D)."""
        guided = l - self.first_guided
        prompts = self.guided[guided] if guided >= 0 else self.prompts[l - self.start_block]
        return F.normalize(prompts, dim=-1)

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, None]:  # noqa: D102
        return self.drop(self.of_block(self.start_block))[None], None

    def next(self, l, prompts_in, prompts_out, patches, state) -> Tuple[Tensor, None]:  # noqa: D102
        return self.drop(self.of_block(l + 1))[None], None

    @property
    def needs_preparation(self) -> bool:  # noqa: D102
        return self.has_losses and not bool(self.classes.prepared)

    def prepare(self, vit: nn.Module, batches) -> str:  # noqa: D102
        if not self.has_losses:
            return super().prepare(vit, batches)
        return self.classes.fit(*class_sums(vit, batches, plain_layer_norm))

    def before_step(self) -> None:
        """From here to :meth:`after_step`, the losses add features to the sums of classes."""
        self._in_step = True

    def after_step(self) -> None:  # noqa: D102
        self._in_step = False

    def after_epoch(self, training: Training) -> str:  # noqa: D102
        return self.classes.update(training.epoch >= self.dynamic_kmeans) if self.has_losses else ''

    def observes(self, l: int) -> bool:  # noqa: D102
        return self.has_losses and l >= self.first_guided

    def losses(self, vit, observed: Observed, labels: Optional[Tensor]) -> Dict[str, Tensor]:
        """Of the patches and of the class tokens, with their weights."""
        if not self.has_losses:
            return {}
        if labels is None:
            raise ValueError('DAVPT: the images have no classes, and its losses need them')
        if self._in_step:
            self.classes.add(plain_layer_norm(pooled(vit, observed.features[-1])), labels)
        belongs = self.classes.belongs(labels)
        known = belongs.any(1)
        patches, classes = [], []
        for l in range(self.first_guided, self.num_layers + 1):
            tokens, prompts = observed.blocks[l][known], self.of_block(l)
            if self.patch_weight:
                mean = tokens[:, vit.num_prefix_tokens :].mean(1)
                patches.append(self.patch_weight * self._loss(mean, prompts, belongs[known]))
            if self.class_weight:
                pair = self._class_pair(vit.block(l), tokens[:, :1], prompts)
                classes.append(self.class_weight * self._loss(*pair, belongs[known]))
        found = (('patches', patches), ('class', classes))
        return {name: torch.stack(one).mean() for name, one in found if one}

    def _class_pair(self, block, tokens: Tensor, prompts: Tensor) -> Tuple[Tensor, Tensor]:
        # Queries of class tokens (B, 1, D) and keys of prompts: (B, D'), (P, D').
        queries = block.project(block.norm1(tokens), 0, 1)[0].flatten(1)
        keys = block.project(block.norm1(prompts[None].to(tokens)), 1, 2)[0][0]  # (H, P, d)
        return queries, keys.transpose(0, 1).flatten(1)

    def _loss(self, z: Tensor, prompts: Tensor, belongs: Tensor) -> Tensor:
        z, prompts = z.to(self.guided), prompts.to(self.guided)  # not in half precision
        s = self.scale * F.cosine_similarity(z[:, None], prompts, dim=-1)
        return proxy_anchor(s, belongs, self.margin, self.sharpness)


def _xavier(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape)))
