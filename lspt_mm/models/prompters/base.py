"""Base class of prompt methods: a cell unrolled over the depth of the ViT."""

import inspect
import math
from abc import ABC, abstractmethod
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.block_adapter import BlockAdapter
from lspt_mm.models.observed import Observed
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_int, check_share, constructor_parameters

#: Arguments of a prompter that the backbone sets.
OF_THE_VIT = ('embed_dims', 'num_layers', 'patch_size', 'num_heads', 'grid')


class Training(NamedTuple):
    """A training run after a pass over its data, for :meth:`Prompter.after_epoch`.

    Attributes:
        epoch: Number of passes over the training set so far, from 1.
        num_epochs: Number of passes of the whole run; the last one may be a part.
        loss: Mean of the loss in this pass.
        forget: Deletes the optimizer's state of a parameter (momentum, second moments); with
            rows as a second argument, sets the momentum of these to 0 and keeps the rest.
        scale: What the gradients of a step are multiplied by, at the end of the pass: the loss
            scale of mixed precision, divided by the number of steps whose gradients are summed.
    """

    epoch: int
    num_epochs: int
    loss: float
    forget: Callable[..., None]
    scale: float = 1.0


class Prompter(nn.Module, ABC):
    """Base class of prompt methods; determines which prompts enter each block.

    The backbone handles the loop over blocks, the order of tokens, freezing and outputs; a method
    sees only prompts and patch tokens. Blocks are counted from 1 to L; the prompts enter at
    ``start_block``, so that L' = L - start_block + 1 blocks have prompts.

    A method implements :meth:`first` and :meth:`next`. Whatever it carries from block to block is
    returned as ``state`` and passed to the next call. Nothing is stored on the module, so that the
    forward pass is a pure function (activation checkpointing, compile, several threads). A method
    that starts from the ViT's weights or from data also implements :meth:`prepare`.

    Args:
        num_tokens: P, the number of prompt tokens; at least 1.
        dropout: Probability of dropping a component of an inserted prompt, in [0, 1). One mask
            is drawn per training step and shared by the batch.
        start_block: The first block with prompts, 1 to L.
        embed_dims: D. The backbone sets this and the following arguments.
        num_layers: L, the number of blocks.
        patch_size: Side of a patch in pixels; sets the scale of VPT's initialisation.
        num_heads: H, the number of attention heads.
        grid: Rows and columns of patches of the images that the ViT is built for.

    Raises:
        ValueError: For any value outside the ranges above.
    """

    #: Arguments without effect on a trained model.
    TRAINING_ONLY: Tuple[str, ...] = ('dropout',)
    #: Parameters, buffers and modules that only training reads.
    TRAINING_STATE: Tuple[str, ...] = ()
    #: Whether :meth:`prepare` reads the whole training set.
    PREPARES_FROM_ALL = False

    def __init__(
        self,
        num_tokens: int,
        dropout: float = 0.0,
        start_block: int = 1,
        *,
        embed_dims: int = 768,
        num_layers: int = 12,
        patch_size: int = 16,
        num_heads: int = 12,
        grid: Tuple[int, int] = (14, 14),
    ):
        super().__init__()
        check_int('num_tokens', num_tokens, 1)
        check_int('start_block', start_block, 1, num_layers)
        check_share('dropout', dropout)
        self.num_tokens = num_tokens
        self.dropout = dropout
        self.start_block = start_block
        self.embed_dims = embed_dims
        self.num_layers = num_layers
        self.patch_size = patch_size
        self.num_heads = num_heads
        self.grid = tuple(grid)
        self.unfuse()

    def precompute(self) -> Optional[Tensor]:
        """Compute what :meth:`first` derives from the parameters alone; None by default.

        After :meth:`fuse`, :meth:`first` uses the stored ``self.fused`` instead.
        """
        return None

    def fuse(self) -> None:
        """Store the result of :meth:`precompute`; called by the backbone's ``fuse()``."""
        found = self.precompute()
        self.fused = None if found is None else found.detach()  # may be a parameter

    def unfuse(self) -> None:
        """Discard the results of ``fuse()``: the tensor above, and keys and values by block."""
        self.fused: Optional[Tensor] = None
        self.fused_keys_values: Dict[int, Tuple[Tensor, Tensor]] = {}

    def strip(self) -> None:
        """Delete :attr:`TRAINING_STATE`; called on the copy of a model that is exported."""
        for name in self.TRAINING_STATE:
            setattr(self, name, None)

    def train(self, mode: bool = True) -> 'Prompter':
        """As ``nn.Module.train``; training also unfuses."""
        if mode:
            self.unfuse()
        return super().train(mode)

    def _apply(self, *args, **kwargs):  # to(), half(), ...
        self.unfuse()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):  # whole models call it as well
        self.unfuse()
        super()._load_from_state_dict(*args, **kwargs)

    @classmethod
    def argument_names(cls) -> Set[str]:
        """Names of the arguments a config may set: all except those that the backbone sets."""
        return constructor_parameters(cls).keys() - set(OF_THE_VIT)

    @classmethod
    def argument_defaults(cls) -> Dict[str, Any]:
        """Default values of those arguments that have one."""
        names = cls.argument_names()
        found = constructor_parameters(cls).items()
        return {n: p.default for n, p in found if n in names and p.default is not p.empty}

    @property
    def needs_preparation(self) -> bool:
        """Whether :meth:`prepare` has to run before training; False once it has, or was loaded."""
        return False

    def parts(self) -> 'List[Prompter]':
        """Prompters that :meth:`prepare` themselves, in their order; a wrapper has several."""
        return [self]

    def prepare(self, vit: nn.Module, batches: Iterable[Tuple[Tensor, Optional[Tensor]]]) -> str:
        """Initialise from the loaded ViT and data; called once, before the first iteration.

        All that it sets is in the state dict, so that resuming and testing need no data.

        Args:
            vit: The :class:`PromptedViT` this prompter is part of, in eval mode.
            batches: Training images from the data preprocessor, (B, 3, H, W), and their classes
                as in :meth:`losses`, or None for data without classes. All images of the training
                set with :attr:`PREPARES_FROM_ALL`, else as many as ``PromptInitHook`` says.

        Returns:
            str: One line for the log.

        Raises:
            ValueError: If the method does not start from data, or cannot start from these.
        """
        raise ValueError(f'{type(self).__name__} as it is configured does not start from data')

    def check_vit(self, vit: nn.Module) -> None:
        """Raise ValueError if the method cannot run in this ViT; called once, at construction."""
        for number in range(self.start_block, self.num_layers + 1):
            inside = (self.temperature, self.keys_values, self.adapter)
            if vit.block(number) is None and any(part(number) is not None for part in inside):
                raise ValueError(
                    f'{type(self).__name__} changes the attention or the tokens inside a block, '
                    f'and block {number} of this ViT can only be run as a whole: turn this off, or '
                    'take another ViT'
                )

    def reads_output(self, l: int) -> bool:
        """Whether :meth:`next` reads the outputs of block l at the prompts.

        If not, the backbone runs prompts only as keys and values, and passes None.
        """
        return True

    def input_independent(self, l: int) -> bool:
        """Whether, in eval mode, the prompts entering block l are the same for all images.

        If they are and ``reads_output(l)`` is False, the backbone's ``fuse()`` computes their keys
        and values once.
        """
        return False

    def drop(self, prompts: Tensor) -> Tensor:
        """Apply dropout to inserted prompts; one mask for the batch if they are (1, P, D)."""
        return F.dropout(prompts, self.dropout, self.training)

    @property
    def num_prompted(self) -> int:
        """L', the number of blocks with prompts."""
        return self.num_layers - self.start_block + 1

    @abstractmethod
    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Optional[Tensor], Any]:
        """Prompts that enter block ``start_block``.

        Args:
            patches: Patch tokens that enter that block, (B, N, D), row by row.
            grid: Their rows and columns. A method that needs them in :meth:`next` keeps them in
                its state.

        Returns:
            tuple: prompts, (1, P, D) if they are the same for every image, else (B, P, D), or
            None for a block without prompts; and the state for :meth:`next`.
        """

    @abstractmethod
    def next(
        self, l: int, prompts_in: Tensor, prompts_out: Optional[Tensor], patches: Tensor, state: Any
    ) -> Tuple[Tensor, Any]:
        """Prompts that enter block l+1; called for l = start_block .. L-1, never after block L.

        Args:
            l: The block that has just run, counted from 1.
            prompts_in: Prompts that entered block l, (1 or B, P, D).
            prompts_out: Outputs of block l for them, (B, P, D); None unless ``reads_output(l)``.
            patches: Patch tokens after block l, (B, N, D).
            state: Returned by the previous call.

        Returns:
            tuple: prompts (1 or B, P, D), None for a block without prompts; and the next state.
        """

    def temperature(self, l: int) -> Optional[Tensor]:
        """The scalar that divides block l's queries, or None; for methods that shape attention."""
        return None

    def keys_values(self, l: int) -> Optional[Sequence[Tensor]]:
        """Further keys and values of block l, (1, 1 or H, P', d) each, or None.

        They enter attention as they are: after projection, norms and rotation.
        """
        return None

    def adapter(self, l: int) -> Optional[BlockAdapter]:
        """Changes of the tokens inside block l, or None."""
        return None

    # ---- training -------------------------------------------------------------------------------

    def observes(self, l: int) -> bool:
        """Whether :meth:`losses` reads the tokens that enter block l."""
        return False

    def losses(
        self, vit: nn.Module, observed: Observed, labels: Optional[Tensor]
    ) -> Dict[str, Tensor]:
        """Further losses of a training step, added to the head's by ``PrompterHook``.

        Args:
            vit: The :class:`PromptedViT`.
            observed: What the forward pass of this step computed.
            labels: (B, K) of bool: the classes that each image has. Of a segmentation these are
                all classes that have a pixel. None for data without classes.

        Returns:
            dict: Name to a scalar. The log has it as ``loss_METHOD_NAME``.
        """
        return {}

    def before_step(self) -> None:
        """Called before each training iteration."""

    def after_step(self) -> None:
        """Called after each training iteration, when the optimizer has changed the parameters."""

    def after_epoch(self, training: Training) -> str:
        """Called after each pass over the training set, whatever unit the run counts in.

        All that it changes is in the state dict.

        Returns:
            str: A line for the log, or ''.
        """
        return ''

    def consolidate(
        self, vit: nn.Module, batches: Iterable[Tuple[Tensor, Optional[Tensor]]]
    ) -> str:
        """Called between the tasks of continual learning, by ``tools/continual.py``.

        All that it changes is in the state dict.

        Args:
            vit: As in :meth:`prepare`, with these prompts.
            batches: All training images of the task that has ended, as in :meth:`prepare` but
                without augmentation and classes.

        Returns:
            str: A line for the log, or ''.
        """
        return ''

    def trains_by_hook(self) -> bool:
        """Whether training needs ``PrompterHook``; by default if a part that it calls is there."""
        parts = ('losses', 'before_step', 'after_step', 'after_epoch')
        return any(getattr(type(self), part) is not getattr(Prompter, part) for part in parts)

    def layout(self) -> Tuple[int, ...]:
        """What the shapes of prompts depend on, beside arguments.

        Models of the same arguments and layout run together in a batch of several prompt sets.
        """
        return ()

    def per_block_stats(self) -> Dict[str, Dict[int, float]]:
        """Learned numbers of each block, which reports plot over depth.

        Returns:
            dict: Title to block, counted from 1, to a number; empty by default.
        """
        return {}

    def extra_repr(self) -> str:
        """Shape of the method, for ``print(model)``."""
        return f'num_tokens={self.num_tokens}, start_block={self.start_block}'


class TokenFreePrompter(Prompter):
    """Base class of methods without prompt tokens, which change blocks from the inside.

    A subclass implements :meth:`~Prompter.keys_values` or :meth:`~Prompter.adapter`.
    """

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[None, None]:
        """No prompts."""
        return None, None

    def next(self, l: int, prompts_in, prompts_out, patches: Tensor, state) -> Tuple[None, None]:
        """No prompts."""
        return None, None

    def reads_output(self, l: int) -> bool:
        """No prompts."""
        return False


class DeepPrompter(Prompter):
    """Base class of methods with prompts of their own in every block, whose outputs are not read.

    The state that :meth:`~Prompter.first` returns has the prompts of all L' blocks, in order.
    """

    def reads_output(self, l: int) -> bool:
        """No output of a prompt is read."""
        return False

    def input_independent(self, l: int) -> bool:
        """Prompts of a block are the same for all images."""
        return True

    def next(self, l: int, prompts_in, prompts_out, patches: Tensor, state) -> Tuple[Any, Any]:
        """The prompts of block l+1."""
        return state[l - self.start_block + 1], state


def vpt_uniform(*shape: int, patch_size: int, embed_dims: int) -> nn.Parameter:
    """Draw a parameter: U(-v, v), v = sqrt(6 / (3 * patch_size^2 + D)) (VPT, arXiv 2203.12119).

    For ViT-B/16 v is 0.0625.
    """
    bound = math.sqrt(6.0 / (3 * patch_size * patch_size + embed_dims))
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


def build_prompter(cfg: dict, **vit) -> Prompter:
    """Build a prompter from ``dict(type=..., **arguments)``.

    Args:
        cfg: The method's registered name (or class) and its arguments.
        **vit: The arguments in :data:`OF_THE_VIT`.

    Raises:
        ValueError: For an unknown method, argument or value.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ValueError(f"prompter={cfg!r}: expected None or dict(type='LSPT', ...)")
    arguments = dict(cfg)
    method = _find_method(arguments.pop('type'))
    known = method.argument_names()
    for name in arguments:
        if name not in known:
            raise ValueError(
                f'prompter: {method.__name__} has no argument {name!r}; it has '
                f'{", ".join(sorted(known))}'
            )
    try:
        inspect.signature(method).bind(**arguments, **vit)
    except TypeError as error:
        raise ValueError(f'prompter: {method.__name__}: {error}') from error
    return method(**arguments, **vit)


def _find_method(kind) -> type:
    # Not found by the registry, which would search other scopes such as `mmseg`.
    method = kind
    if isinstance(kind, str):
        scope, _, name = kind.rpartition('.')
        method = PROMPTERS.module_dict.get(name)
        # A dumped config names a class by its module, or by a package that exports it.
        if method and scope != 'lspt_mm' and not method.__module__.startswith(scope):
            method = None
    if not (isinstance(method, type) and issubclass(method, Prompter)):
        known = ', '.join(sorted(PROMPTERS.module_dict))
        raise ValueError(f'prompter type={kind!r}: expected one of {known}')
    return method


def plain_config(cfg: dict) -> dict:
    """The config of a prompter as plain data: methods by their names, wrapped ones as well."""
    inner = {k: plain_config(v) if isinstance(v, dict) and 'type' in v else v
             for k, v in cfg.items()}
    return {**inner, 'type': _find_method(cfg['type']).__name__}
