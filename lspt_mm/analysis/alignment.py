r"""Whether a tuned ViT's features are the plain ViT's in other coordinates (BERT-INN, 2305.14555).

Maps from a block's plain features to its tuned ones, from rigid to flexible: none, orthogonal,
linear, RealNVP. Where a map reaches R^2 = 1 on held-out images, tuning did no more than that map.
What is missing to 1 depends on other tokens, or is too complex to be learned from these rows; so a
RealNVP that is no better than the linear map is no proof that nothing else happened.

BERT-INN's code fits and evaluates on the same data; here no image is used for both. It also ignores
exceptions while it fits; here they end the analysis.

Shapes: n rows, which are patch tokens, D channels, k principal components.
"""

import math
from typing import Callable, Dict, List, NamedTuple, Tuple

import torch
from torch import Tensor

from lspt_mm.analysis.realnvp import fit_realnvp
from lspt_mm.errors import InputError
from lspt_mm.models.tokens import BlockStep

#: Patch tokens of an image. (Class tokens are too few, one an image, and not every ViT has one.)
PATCHES = 32
#: Fewest images; a quarter of them is held out.
MIN_IMAGES = 16
#: Most principal components, and training rows for each of them.
MAX_COMPONENTS, ROWS_PER_COMPONENT = 32, 4
#: Strengths of the ridge penalty, in units of the inputs' mean squared singular value.
STRENGTHS = tuple(10.0**power for power in range(-6, 3))

Affine = Tuple[Tensor, Tensor]  # x @ weight + shift


class Alignment(NamedTuple):
    r"""R^2 on held-out images of maps from plain to tuned features of a block.

    :math:`R^2 = 1 - \sum (y - \hat y)^2 / \sum (y - \bar y)^2`, sums over held-out rows and all
    components y of the tuned features, :math:`\bar y` their mean over the training rows. It is at
    most 1, 0 of a constant prediction, negative of a worse one, and NaN for constant features.

    Attributes:
        components: k, the number of principal components of plain and of tuned features, computed
            on the training rows. All maps read and predict these.
        kept: Share of the tuned features' held-out squared deviations that lies in them, 0 to 1.
        identity: R^2 of the plain features as they are.
        orthogonal: Of the best rotation or reflection, shift and scale (Procrustes).
        linear: Of ridge regression.
        realnvp: Of a RealNVP after the linear map: a bijection, unless that map is singular.
    """

    components: int
    kept: float
    identity: float
    orthogonal: float
    linear: float
    realnvp: float


def align(plain: Tensor, tuned: Tensor, images: Tensor, seed: int = 0) -> Alignment:
    """Fit maps from plain to tuned features on some images and judge them on others.

    Of four images one is held out, and one of the others chooses the strength of the ridge penalty
    and the number of the RealNVP's steps; the maps are then fitted to all three. There are as many
    principal components as channels, but at most 32 and one for four training rows, and an even
    number, for the couplings: more would fit the training rows and nothing else.

    Args:
        plain: (n, D).
        tuned: (n, D), features of the same tokens.
        images: (n,), integers, the image of each row.
        seed: Of the RealNVP's initial weights. The global random numbers stay as they are.

    Raises:
        InputError: If the shapes differ, D is 1, a feature is not finite, or there are fewer than
            16 images.
    """
    _check(plain, tuned, images)
    part = images.unique(return_inverse=True)[1] % 4
    train, held = part != 3, part == 3
    count = min(plain.size(1), MAX_COMPONENTS, int(train.sum()) // ROWS_PER_COMPONENT) // 2 * 2
    if count < 2:
        raise InputError(f'{int(train.sum())} training rows of {plain.size(1)} channels: too few')
    plain, tuned = plain.detach().cpu().double(), tuned.detach().cpu().double()
    x_mean, x_axes = _components(plain[train], count)
    y_mean, y_axes = _components(tuned[train], count)
    x, y = (plain - x_mean) @ x_axes, (tuned - y_mean) @ y_axes

    def score(predicted: Tensor) -> float:
        return _r2(predicted[held], y[held])

    as_it_is = x_axes.T @ y_axes, (x_mean - y_mean) @ y_axes
    orthogonal = _affine(x[train], y[train], _procrustes)
    linear, realnvp = _linear_and_realnvp(x, y, part, seed)
    total = (tuned[held] - y_mean).square().sum()
    return Alignment(
        components=count,
        kept=min(1.0, float(y[held].square().sum() / total)) if total > 0 else math.nan,
        identity=score(_apply(as_it_is, x)),
        orthogonal=score(_apply(orthogonal, x)),
        linear=score(linear),
        realnvp=score(realnvp),
    )


def _check(plain: Tensor, tuned: Tensor, images: Tensor) -> None:
    if plain.dim() != 2 or plain.shape != tuned.shape or images.shape != plain.shape[:1]:
        raise InputError(
            f'features {tuple(plain.shape)} and {tuple(tuned.shape)} of images '
            f'{tuple(images.shape)}: expected (n, D), (n, D) and (n,)'
        )
    for name, one in (('plain', plain), ('tuned', tuned)):
        if not one.isfinite().all():
            value = float(one[~one.isfinite()][0])
            raise InputError(f'the {name} features contain {value}: expected finite numbers')
    count = len(images.unique())
    if count < MIN_IMAGES:
        raise InputError(f'{count} images: expected at least {MIN_IMAGES}')


def _components(rows: Tensor, count: int) -> Tuple[Tensor, Tensor]:
    """Mean (D,) and leading principal axes (D, k)."""
    mean = rows.mean(0)
    scatter = (rows - mean).T @ (rows - mean)
    return mean, torch.linalg.eigh(scatter).eigenvectors[:, -count:].flip(1)


def _r2(predicted: Tensor, y: Tensor) -> float:
    """R^2 of components, whose mean over the training rows is 0."""
    total = y.square().sum()
    return 1 - float((y - predicted).square().sum() / total) if total > 0 else math.nan


def _affine(x: Tensor, y: Tensor, solve: Callable[[Tensor, Tensor], Tensor]) -> Affine:
    """The weight that ``solve`` finds for centred rows, and the shift between their means."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    weight = solve(x - x_mean, y - y_mean)
    return weight, y_mean - x_mean @ weight


def _apply(affine: Affine, x: Tensor) -> Tensor:
    return x @ affine[0] + affine[1]


def _procrustes(x: Tensor, y: Tensor) -> Tensor:
    """An orthogonal matrix times a scale (k, k), of least squared error."""
    u, values, vh = torch.linalg.svd(x.T @ y)
    return u @ vh * (values.sum() / x.square().sum().clamp_min(1e-300))


def _ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    gram = x.T @ x
    penalty = strength * gram.diagonal().mean().clamp_min(1e-300)
    return torch.linalg.solve(gram + penalty * torch.eye(len(gram)).to(gram), x.T @ y)


def _linear_and_realnvp(x: Tensor, y: Tensor, part: Tensor, seed: int) -> Tuple[Tensor, Tensor]:
    """Predictions (n, k) of both maps for all rows; ``part``: 3 is held out, 1 validates."""
    train, fit, valid = part != 3, part % 2 == 0, part == 1

    def linear(rows: Tensor, strength: float) -> Tensor:
        return _apply(_affine(x[rows], y[rows], lambda a, b: _ridge(a, b, strength)), x)

    strength = min(STRENGTHS, key=lambda s: float((linear(fit, s) - y)[valid].square().sum()))
    # The flow works on components of unit variance, its loss is 1 - R^2.
    scale = y[train].std(0)
    scale = scale.clamp_min(1e-6 * float(scale.max()) or 1.0)
    target, weights = (y / scale).float(), (scale.square() / scale.square().sum()).float()

    start = (linear(fit, strength) / scale).float()
    _, steps = fit_realnvp(
        start[fit], target[fit], weights, (start[valid], target[valid]), seed=seed
    )
    predicted = linear(train, strength)
    start = (predicted / scale).float()
    flow, _ = fit_realnvp(start[train], target[train], weights, steps=steps, seed=seed)
    with torch.no_grad():
        return predicted, flow(start).double() * scale if steps else predicted


class AlignmentTrace:
    """Collects patch tokens of the plain and the tuned ViT, block by block.

    For every image, call :meth:`add` in ``unroll`` of the plain ViT and of the tuned one.
    """

    def __init__(self):
        self._rows: Dict[str, Dict[int, List[Tensor]]] = {'plain': {}, 'tuned': {}}

    def add(self, which: str, step: BlockStep) -> None:
        """Store up to 32 patch tokens of each image of a step; ``which``: 'plain' or 'tuned'."""
        rows = self._rows[which].setdefault(step.number, [])
        count = step.hw[0] * step.hw[1]
        for patches in step.x_out[:, -count:].detach():
            # The same random positions for both ViTs and all blocks.
            generator = torch.Generator().manual_seed(len(rows))
            chosen = torch.randperm(count, generator=generator)[:PATCHES]
            rows.append(patches[chosen.to(patches.device)].float().cpu())

    def result(self) -> Dict[int, Alignment]:
        """The alignment of each block, by number; see :func:`align` for errors."""
        found = {}
        for number, tuned in sorted(self._rows['tuned'].items()):
            images = torch.cat([torch.full((len(one),), i) for i, one in enumerate(tuned)])
            plain = self._rows['plain'][number]
            found[number] = align(torch.cat(plain), torch.cat(tuned), images)
        return found
