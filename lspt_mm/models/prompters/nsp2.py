"""Prompts for continual learning that change in a null space (NSP2, arXiv 2406.05658)."""

from typing import Dict, Iterable, Optional, Tuple

import torch
from torch import Tensor, nn

from lspt_mm.models.prompters.base import DeepPrompter
from lspt_mm.models.prompters.null_space import null_space, queries_and_attention
from lspt_mm.models.prompters.whitening import check_linear_logits
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_bool, check_number


@PROMPTERS.register_module()
class NSP2(DeepPrompter):
    r"""Deep prompts that keep what earlier tasks computed while they learn the next one.

    Prompts enter every block as keys and values only, as in VPT-deep. A task is a part of the
    classes. After each one, :meth:`consolidate` adds to two matrices per block, over its images b,
    heads h and tokens i, with queries q and the attention a to the prompts:

    .. math::
        G_1 \leftarrow G_1 + \operatorname{mean}_{b,h,i} \, (q W_k)^T (q W_k), \qquad
        G_2 \leftarrow G_2 + \operatorname{mean}_{b,h,i} \, a^T a

    :math:`W_k` is (d, D), the head's, and q and a are rows. Let :math:`U_1, U_2` span the
    directions of small singular values: those from the largest second difference of the sorted
    values on. 128 values or more are first smoothed by a Gaussian of sigma 10. Then

    .. math::
        B = \eta \, U^T U + (1 - \eta) I, \qquad \Delta P \leftarrow B_2 \, \Delta P \, B_1

    replaces the change of P in each later iteration. The loss also has, per block and prompt,

    .. math::
        \lambda \sum \lvert \operatorname{mean}_D P - \operatorname{mean}_D P' \rvert
            + \lvert \operatorname{std}_D P - \operatorname{std}_D P' \rvert

    with P' from the end of the last task, as a block's first norm divides by them.

    The paper's ``normalize=True`` divides :math:`U^T U` by its Frobenius norm, the square root of
    its rank. This mixes it with I at very unequal scales, and shortens all updates; the default
    does not. The update is what an iteration changed, not a step of Adam, so that every optimizer
    and its weight decay is projected.

    Args:
        num_tokens (int): P. The paper's: 4.
        dropout (float): On inserted prompts. The paper's: 0.
        start_block (int): First block with prompts, from 1.
        eta (float): :math:`\eta`, 0 to 1. The paper's: 0.94 to 0.97, by data set.
        normalize (bool): Divide the projections by their Frobenius norms.
        consistency (float): :math:`\lambda`, at least 0. The paper's: 1.

    Attributes:
        prompts (Parameter): (L', P, D), start U(-1, 1).
        gram_keys (Tensor): :math:`G_1`, (L', D, D), start 0.
        gram_attention (Tensor): :math:`G_2`, (L', P, P), start 0.
        project_width (Tensor): :math:`B_1`, (L', D, D), start I.
        project_tokens (Tensor): :math:`B_2`, (L', P, P), start I.
        last_prompts (Tensor): P', (L', P, D).
        num_tasks (Tensor): Number of consolidated tasks.

    Parameters in all: L' P D. The matrices are in every checkpoint, 2 L' D^2 numbers more: 57 MB
    for ViT-B.
    """

    TRAINING_ONLY = ('dropout', 'eta', 'normalize', 'consistency')

    def __init__(
        self,
        num_tokens: int,
        dropout: float = 0.0,
        start_block: int = 1,
        eta: float = 0.97,
        normalize: bool = False,
        consistency: float = 1.0,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_number('eta', eta, 0)
        if eta > 1:
            raise ValueError(f'eta={eta!r}: expected a number from 0 to 1')
        check_bool('normalize', normalize)
        check_number('consistency', consistency, 0)
        self.eta, self.normalize, self.consistency = eta, normalize, consistency
        blocks, width = self.num_prompted, self.embed_dims
        self.prompts = nn.Parameter(torch.empty(blocks, num_tokens, width).uniform_(-1, 1))
        for size, gram, projector in (
            (width, 'gram_keys', 'project_width'),
            (num_tokens, 'gram_attention', 'project_tokens'),
        ):
            self.register_buffer(gram, torch.zeros(blocks, size, size))
            self.register_buffer(projector, torch.eye(size).repeat(blocks, 1, 1))
        self.register_buffer('last_prompts', torch.zeros_like(self.prompts))
        self.register_buffer('num_tasks', torch.tensor(0))
        self._before: Optional[Tensor] = None

    def check_vit(self, vit: nn.Module) -> None:
        """Also raise ValueError if the attention to prompts is not linear in their keys."""
        super().check_vit(vit)
        blocks = range(self.start_block, self.num_layers + 1)
        check_linear_logits(vit, blocks, 'NSP2 cannot project prompts of', 'another ViT')

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
        """The first block's prompts; the state has those of all blocks."""
        prompts = self.drop(self.prompts).unsqueeze(1)  # (L', 1, P, D)
        return prompts[0], prompts

    # ---- training -------------------------------------------------------------------------------

    def losses(self, vit: nn.Module, observed, labels: Optional[Tensor]) -> Dict[str, Tensor]:
        """From the second task on, the change of the prompts' means and deviations."""
        if not (self.num_tasks and self.consistency):
            return {}
        now, last = self.prompts, self.last_prompts
        change = (now.mean(-1) - last.mean(-1)).abs() + (now.std(-1) - last.std(-1)).abs()
        return {'consistency': self.consistency * change.sum()}

    def before_step(self) -> None:
        """From the second task on, keep the prompts."""
        self._before = self.prompts.detach().clone() if self.num_tasks else None

    @torch.no_grad()
    def after_step(self) -> None:
        """Project what the iteration changed."""
        if self._before is not None:
            change = self.project_tokens @ (self.prompts - self._before) @ self.project_width
            self.prompts.copy_(self._before + change)

    @torch.no_grad()
    def consolidate(
        self, vit: nn.Module, batches: Iterable[Tuple[Tensor, Optional[Tensor]]]
    ) -> str:
        """Add a task's images to the matrices, and compute the projections of the next task."""
        queries, attention, count = {}, {}, 0

        def add(step):
            if step.number < self.start_block:
                return
            q, a = queries_and_attention(vit, step)
            index = step.number - self.start_block
            queries[index] = queries.get(index, 0) + q
            attention[index] = attention.get(index, 0) + a

        for images, _ in batches:
            vit.unroll(images, add)
            count += len(images)
        if not count:
            raise ValueError('NSP2: there is no image to consolidate from')
        ranks = []
        for index, block in enumerate(range(self.start_block, self.num_layers + 1)):
            weight = vit.block(block).query_key_weights()[1].double()
            heads = weight.unflatten(0, (vit.num_heads, -1))  # (H, d, D)
            width = torch.einsum('hdx,hde,hey->xy', heads, queries[index] / count, heads)
            for gram, projector, new in (
                (self.gram_keys, self.project_width, width / vit.num_heads),
                (self.gram_attention, self.project_tokens, attention[index] / count),
            ):
                gram[index] += new.to(gram)
                matrix, rank = null_space(gram[index], self.normalize)
                eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
                projector[index] = (self.eta * matrix + (1 - self.eta) * eye).to(projector)
                ranks.append(rank)
        self.last_prompts.copy_(self.prompts)
        self.num_tasks += 1
        return (
            f'task {int(self.num_tasks)} consolidated from {count} images; free directions, of '
            f'{self.embed_dims}: {", ".join(map(str, ranks[::2]))}; of {self.num_tokens}: '
            f'{", ".join(map(str, ranks[1::2]))}'
        )
