"""Initialisation of prompts from the attention of a block (VIPAMIN, arXiv 2510.16446)."""

from typing import Dict, Iterable, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.prompters.patch_tokens import check_finite
from lspt_mm.models.prompters.spt import PreparedVPT
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_int, check_number


@PROMPTERS.register_module()
class VIPAMIN(PreparedVPT):
    r"""VPT whose prompts start near tokens they attend to, and away from what attention gives.

    Let E be the tokens that enter the block in the plain ViT, averaged over some training images,
    p a prompt of VPT's uniform initialisation, :math:`W_V, b_V` the value projection, and Q an
    orthonormal basis of the rows of the attention's output of E, before its projection:

    .. math::
        & p^{avg} = \operatorname{mean}_{j \in I} E_j, \quad
          I = \text{the } k \text{ patches whose keys are nearest to the key of } p \\
        & p^{orth} = W_V^{+} \left( (I - Q Q^T) (W_V p + b_V) - b_V \right) \\
        & p \leftarrow (1 - \lambda) \, p^{avg} + \lambda \, p^{orth}

    Nearest is by the cosine over all heads, as in the paper; the authors' code averages the keys
    of the heads first. It also maps back by the untransposed inverse of :math:`W_V`, so that
    :math:`p^{orth}` is not orthogonal to Q. For keys, prompts pass the block's first norm as
    tokens do (ours); for values they do not, as in the formula, which is linear. Class token and
    registers take part in the attention and its basis, and are no neighbours. Prepared before the
    first iteration (``PromptInitHook``, whose images are not the authors' batch of 256).

    Args:
        num_tokens (int): P. The paper's: 100 (shallow), 20 (deep).
        neighbors (int): k, 1 to the number of patches. The paper chooses among 2, 8, 32 and 128.
        orthogonal (float): :math:`\lambda`, 0 to 1; the paper chooses it as well. The default is 0
            (ours): where :math:`W_V` has small singular values, :math:`p^{orth}` is far longer
            than a token (in a ViT-S/14 of DINOv2 40 to 3,000 against 1 to 10).
        **vpt: :class:`VPT`'s arguments, except ``project``.

    Attributes:
        prompts (Parameter): (K, P, D); VPT's uniform initialisation until prepared.

    Parameters in all: K P D.
    """

    TRAINING_ONLY = (*PreparedVPT.TRAINING_ONLY, 'neighbors', 'orthogonal')

    def __init__(self, num_tokens: int, neighbors: int = 8, orthogonal: float = 0.0, **vpt):
        super().__init__(num_tokens, **vpt)
        check_int('neighbors', neighbors, 1)
        check_number('orthogonal', orthogonal, 0)
        if orthogonal > 1:
            raise ValueError(f'orthogonal={orthogonal!r}: expected a number from 0 to 1')
        self.neighbors, self.orthogonal = neighbors, orthogonal

    def check_vit(self, vit: nn.Module) -> None:
        """Also raise ValueError if keys and values of a block are not to be had."""
        super().check_vit(vit)
        for number in self.own_blocks:
            block = vit.block(number)
            if block is None or block.groups > 1:
                why = 'can only be run as a whole' if block is None else 'shares values among heads'
                raise ValueError(
                    f'VIPAMIN: block {number} of this ViT {why}; expected another ViT, or a '
                    'prompter of type VPT'
                )

    @torch.no_grad()
    def prepare(
        self, vit: nn.Module, batches: Iterable[Tuple[Tensor, Optional[Tensor]]]
    ) -> str:
        """Initialise the prompts of each deep block (shallow: the first one)."""
        sums: Dict[int, Tensor] = {}
        ropes: Dict[int, Optional[Tensor]] = {}
        count = 0

        def add(step):
            if step.number in self.own_blocks:
                sums[step.number] = sums.get(step.number, 0) + step.x_in.double().sum(0)
                ropes[step.number] = step.rope

        for images, _ in batches:
            vit.unroll(images, add, prompted=False)
            count += len(images)
        if not count:
            raise ValueError('VIPAMIN: there is no image to start from')
        for prompts, number in zip(self.prompts, self.own_blocks, strict=True):
            check_finite(sums[number])
            tokens = (sums[number] / count).to(prompts.dtype)
            block, prefix = vit.block(number), vit.num_prefix_tokens
            start = (1 - self.orthogonal) * self._averages(block, prompts, tokens[prefix:])
            if self.orthogonal:
                outputs = attention_output(block, tokens, ropes[number], prefix)
                start += self.orthogonal * orthogonal_to(block, prompts, outputs)
            prompts.copy_(start)
        self.prepared.fill_(True)
        return f'prompts of {len(self.own_blocks)} block(s) started from {count} images'

    def _averages(self, block, prompts: Tensor, patches: Tensor) -> Tensor:
        """p^avg (P, D) of prompts (P, D), from patches (N, D)."""
        if self.neighbors > len(patches):
            raise ValueError(
                f'VIPAMIN: neighbors={self.neighbors}: expected at most {len(patches)}, the number '
                'of patches of the images'
            )
        keys = [
            F.normalize(block.project(block.norm1(x[None]), 1, 2)[0][0].transpose(0, 1).flatten(1))
            for x in (prompts, patches)
        ]
        nearest = (keys[0] @ keys[1].T).topk(self.neighbors, dim=1).indices  # (P, k)
        return patches[nearest].mean(1)


def attention_output(block, tokens: Tensor, rope: Optional[Tensor], leading: int) -> Tensor:
    """Attention's output of tokens (T, D) before its projection, (T, H d).

    ``rope`` is of all but the first ``leading`` tokens.
    """
    q, k, v = block.project(block.norm1(tokens[None]), 0, 3)
    if rope is not None:
        q, k = (block.rotate(part, rope, leading).type_as(v) for part in (q, k))
    return block.attend(q, k, v)[0].transpose(0, 1).flatten(1)


def orthogonal_to(block, prompts: Tensor, outputs: Tensor) -> Tensor:
    """p^orth (P, D): tokens with the part of the prompts' values that is orthogonal to the rows.

    Args:
        block (ViTBlock): With the value projection.
        prompts: (P, D).
        outputs: The rows, (T, H d).

    Raises:
        ValueError: If nothing is orthogonal to the rows.
    """
    _, sizes, rows = torch.linalg.svd(outputs.double(), full_matrices=False)
    basis = rows[sizes > max(outputs.shape) * torch.finfo(outputs.dtype).eps * sizes[0]]  # Q^T
    if len(basis) == outputs.size(1):
        raise ValueError(
            f'VIPAMIN: the attention of {len(outputs)} tokens spans all {len(basis)} directions, '
            'so that no prompt is orthogonal to it; expected smaller images, or orthogonal=0'
        )
    weight = block.weights()[2].double()  # (out, in)
    zero = prompts.new_zeros(1, 1, prompts.size(1))
    bias = block.project(zero, 2, 3)[0][0].transpose(0, 1).flatten().double()
    values = prompts.double() @ weight.T + bias
    values = values - values @ basis.T @ basis
    return ((values - bias) @ torch.linalg.pinv(weight).T).to(prompts.dtype)
