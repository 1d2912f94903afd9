"""Base class of all prompted ViTs: loop over blocks, outputs, tuning and weights."""

from abc import abstractmethod
from functools import partial
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lspt_mm.checkpoints import load_backbone
from lspt_mm.checkpoints.backbone import ADDED, BackboneDescription, BackboneWeights
from lspt_mm.checkpoints.prompt_only import restore_base_weights
from lspt_mm.models.description import describe, settings, vit_size
from lspt_mm.models.features import READ_PROMPTS, features, out_range
from lspt_mm.models.fuse import fuse
from lspt_mm.models.lora import LoRA
from lspt_mm.models.observed import CURRENT
from lspt_mm.models.prompted_block import ViTBlock, block_forward, compiled_block_forward
from lspt_mm.models.prompters.base import Prompter, build_prompter, plain_config
from lspt_mm.models.tokens import BlockStep, Tokens
from lspt_mm.models.tuning import apply_tune, lora_rank, train_tuned_only
from lspt_mm.models.vit_arguments import check_outputs


class Embedded(NamedTuple):
    """Input of a ViT's blocks, made from images.

    Attributes:
        tokens: ``[class token | registers | patches]`` with positions, (B, E+N, D).
        hw: Rows and columns of patches.
        ropes: For each block, the rotary embedding of the patches, (N, 2 d) or (H, N, 2 d), or
            None.
    """

    tokens: Tensor
    hw: Tuple[int, int]
    ropes: Optional[Sequence[Optional[Tensor]]] = None


class Early(NamedTuple):
    """Output of a plain ViT's first blocks, an input of :meth:`PromptedBackbone.forward`.

    Attributes:
        number: How many blocks have run; the receiving ViT runs the others.
        embedded: Input of the next block.
        outs: Requested outputs of earlier blocks, (B, E+N, D) by number, from 1.
    """

    number: int
    embedded: Embedded
    outs: Dict[int, Tensor]


def source_of(
    pretrained: Optional[str], init_cfg: Union[dict, list, None]
) -> Tuple[Optional[str], Union[dict, list, None]]:
    """Convert MMEngine's ``init_cfg`` of type ``Pretrained`` to ``pretrained``; return both.

    Raises:
        ValueError: If they name two files.
    """
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
        other = init_cfg.get('checkpoint', '')
        if pretrained is not None and pretrained != other:
            raise ValueError(
                f'pretrained={pretrained!r} and init_cfg={init_cfg!r} name two files; expected '
                'one of them, the other None'
            )
        return other, None
    return pretrained, init_cfg


class PromptedBackbone(BaseModule):
    """A frozen ViT tuned by prompts, with parameters of any library.

    Tokens are in the order ``[class token | registers | prompts | patches]``. Prompts enter after
    the position embedding and have no position. The parameters of the method are below
    ``prompter.``.

    A subclass provides the ViT: the attributes below, :meth:`embed`, :meth:`take_block`,
    :meth:`whole`, :attr:`last_norm`, :attr:`unread`, :meth:`pool` and :meth:`depth_of`; its
    constructor ends with :meth:`set_up`.

    Attributes:
        embed_dims (int): D.
        num_layers (int): L, the number of blocks.
        num_heads (int): H.
        patch_size (tuple): Height and width of a patch in pixels.
        img_size (tuple): Height and width of the images that it is built for.
        patch_resolution (tuple): Rows and columns of their patches.
        num_prefix_tokens (int): E, the number of tokens before prompts and patches.
        num_extra_tokens (int): 1 with a class token, else 0.
        prompter_cfg (dict or None): The method's type and arguments.
        interpolate_mode (str): How its position embeddings are resized.
        kind (dict): Further identification of the ViT besides its sizes, for checkpoint records.
        translate: As in :class:`~lspt_mm.checkpoints.backbone.BackboneDescription`.
        weights: ``BackboneWeights``: where the ViT's weights come from. A model can be built
            without weights, but ``BackboneWeightsHook`` does not let it run. In eval mode the
            model raises an error if ``pretrained`` was not read, or if a checkpoint without the
            ViT was loaded.
    """

    interpolate_mode = 'bicubic'
    kind: Dict[str, str] = {}
    translate: Optional[Callable[[Dict[str, Tensor]], Dict[str, Tensor]]] = None

    def set_up(
        self,
        prompter: Optional[dict],
        pretrained: Optional[str],
        with_cp: Union[bool, str],
        compile_blocks: bool,
        tune: str,
        out_indices: Sequence[int],
        out_type: str,
        final_norm: Union[bool, str],
        lora_parts: str,
    ) -> None:
        """Set the arguments that all prompted ViTs have; ``out_indices`` count from 0.

        Raises:
            ValueError: If they do not fit the ViT.
        """
        self.pretrained, self.weights = pretrained, BackboneWeights()
        self.with_cp, self.compile_blocks, self.tune = with_cp, compile_blocks, tune
        self.out_indices, self.out_type, self.final_norm = out_indices, out_type, final_norm
        self.prompter = self.prompter_cfg = self.lora = None
        if prompter is not None:
            self.prompter = build_prompter(prompter, **vit_size(self))
            self.prompter_cfg = plain_config(prompter)
            self.prompter.check_vit(self)
        rank = lora_rank(tune)
        if rank:
            self.lora = self.make_lora(rank, lora_parts)
        check_outputs(self)
        apply_tune(self, tune)

    def make_lora(self, rank: int, parts: str) -> nn.ModuleList:
        """Newly initialised LoRA of ``rank`` for every block.

        Raises:
            ValueError: If a block can only be run as a whole.
        """
        return nn.ModuleList(self._lora(number, rank, parts)
                             for number in range(1, self.num_layers + 1))

    def _lora(self, number: int, rank: int, parts: str) -> LoRA:
        block = self.take_block(number)
        if block is None:
            raise ValueError(
                f'tune={self.tune!r}: block {number} of this ViT can only be run as a whole, so '
                'LoRA cannot be added to it'
            )
        return LoRA(rank, self.embed_dims, block.widths, parts)

    def block(self, number: int, adapted: bool = True) -> Optional[ViTBlock]:
        """Block ``number``, from 1, with LoRA if ``adapted``; None if it only runs as a whole."""
        lora = self.lora[number - 1] if adapted and self.lora is not None else None
        return self.take_block(number, lora)

    def own_tensors(self) -> Dict[str, Tensor]:
        """Parameters and buffers of the ViT by name, without prompter and LoRA."""
        named = [*self.named_parameters(), *self.named_buffers()]
        return {name: tensor for name, tensor in named if not name.startswith(ADDED)}

    @torch.no_grad()
    def merge_lora(self) -> None:
        """Add LoRA's products to the frozen weights, which then differ from the file's."""
        for number in range(1, self.num_layers + 1 if self.lora is not None else 1):
            block = self.block(number)
            for weight, delta in zip(block.weights(), block.lora.delta(), strict=True):
                weight += delta
        self.lora = None

    def _norm_after(self, number: int) -> Callable[[Tensor], Tensor]:
        """The norm of block ``number``'s output."""
        if number != self.num_layers or not self.final_norm:
            return nn.Identity()
        if self.final_norm == 'identity':
            return partial(F.layer_norm, normalized_shape=(self.embed_dims,), eps=1e-6)
        return self.last_norm

    # ---- provided by the subclass --------------------------------------------------------------

    @abstractmethod
    def embed(self, img: Tensor) -> Embedded:
        """Convert images (B, 3, H, W) to the input of the first block."""

    @abstractmethod
    def patches(self, img: Tensor) -> Tensor:
        """Patch tokens (B, N, D) before position embeddings."""

    @abstractmethod
    def take_block(self, number: int, lora: Optional[LoRA] = None) -> Optional[ViTBlock]:
        """Block ``number``, from 1, split into steps; None if it can only be run as a whole."""

    def whole(self, number: int, x: Tensor, rope: Optional[Tensor], num_prompts: int) -> Tensor:
        """Run block ``number`` by its own forward; (B, T, D), ``num_prompts`` after the prefix.

        Only needed for blocks that :meth:`take_block` cannot split.
        """
        raise NotImplementedError(
            f'block {number}: take_block of {type(self).__name__} returned None, which needs whole'
        )

    @property
    @abstractmethod
    def last_norm(self) -> Callable[[Tensor], Tensor]:
        """The pre-trained norm after the last block."""

    @property
    def unread(self) -> Tuple[str, ...]:
        """Beginnings of names of parameters after the blocks that no output depends on.

        They are not trained: processes of distributed training would wait for their gradients.
        """
        return ()

    def pool(self, x: Tensor) -> Tensor:
        """Pool tokens to (B, D) for the out types that do so (:func:`features`)."""
        raise NotImplementedError(f'{type(self).__name__} has no pool for this out_type')

    @abstractmethod
    def depth_of(self, name: str) -> int:
        """Depth of a parameter: 0 is the embedding, 1..L its block, L+1 after the blocks."""

    def get_layer_depth(self, param_name: str, prefix: str = '') -> Tuple[int, int]:
        """For mmpretrain's layer-wise learning rates, return :meth:`depth_of` and L+2."""
        name = param_name[len(prefix) :]
        of_vit = param_name.startswith(prefix) and not name.startswith(ADDED)
        return self.depth_of(name) if of_vit else self.num_layers + 1, self.num_layers + 2

    # ---- weights ------------------------------------------------------------------------------

    def init_weights(self) -> None:
        """Read ``pretrained``, or raise InputError; without it, initialise at random."""
        if self.pretrained is None:
            self.init_random()
        else:
            load_backbone(self, self.pretrained)

    def init_random(self) -> None:
        """Initialise at random, as the ViT's library does."""
        super().init_weights()

    def describe(self) -> BackboneDescription:
        """Describe the backbone as plain data, for the checkpoint code."""
        return describe(self)

    def settings(self) -> list:
        """What the plain ViT does with its tensors, as JSON: sizes, and settings of layers."""
        return settings(self)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # Called by every way of loading, MMEngine's own included.
        weights = restore_base_weights(self.describe(), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.weights = weights

    def train(self, mode: bool = True) -> 'PromptedBackbone':
        """Set train mode for tuned parts; frozen parts stay in eval mode."""
        super().train(mode)
        if mode:
            for child in self.children():
                # Dropout outside the blocks belongs to the ViT, not to the prompter.
                train_tuned_only(child, parent_tuned=self.tune == 'full')
        return self

    def fuse(self, prompter: Optional[Prompter] = None) -> None:
        """Precompute, for inference, whatever is the same for every image.

        Outputs stay bit-identical (fuse under the same autocast as inference). ``unfuse()``,
        ``train()``, ``to()`` and loading a state dict undo it. ``prompter``: one that will be
        passed to :meth:`forward`. Raises InputError in train mode.
        """
        prompter = self.prompter if prompter is None else prompter
        if prompter is not None:
            fuse(self, prompter)

    def unfuse(self) -> None:
        """Discard the results of :meth:`fuse`."""
        if self.prompter is not None:
            self.prompter.unfuse()

    # ---- forward ------------------------------------------------------------------------------

    def forward(
        self, img: Union[Tensor, Early], prompter: Union[Prompter, bool, None] = None
    ) -> Tuple:
        """Images (B, 3, H, W) to one tensor per ``out_indices``, shaped as ``out_type`` says.

        ``img`` may also be the output of the first blocks, if these are this ViT's own without
        prompts and LoRA. ``prompter`` replaces the model's own; False is none, and no LoRA.

        Raises:
            InputError: In eval mode, if the ViT is random although ``pretrained`` names weights,
                or a checkpoint was loaded that lacks them.
        """
        outs, last = [], max(self.out_indices) + 1

        def collect(number, before, prompts, after, hw, rope) -> None:
            if number - 1 in self.out_indices:
                outs.append(features(
                    self.out_type, after, number, hw, self._norm_after(number), self.pool,
                    self.num_extra_tokens, cut=after.x.size(1) < before.x.size(1),
                ))

        self._unroll(img, collect, prompter, last)
        observed = CURRENT.get()
        if observed is not None:
            observed.features = tuple(outs)
        return tuple(outs)

    def unroll(
        self, img: Tensor, visit: Callable[[BlockStep], None], prompted: bool = True
    ) -> None:
        """Run all blocks on images (B, 3, H, W), calling ``visit`` after each of them.

        ``prompted=False`` runs the plain ViT, whatever the prompter. Raises as :meth:`forward`.
        """

        def show(number, before, prompts, after, hw, rope) -> None:
            x_in, x_out = before.without_prompts, after.without_prompts
            visit(BlockStep(number, x_in, prompts, x_out, after.prompts, hw, rope, prompted))

        self._unroll(img, show, None if prompted else False)

    def _unroll(
        self, img: Union[Tensor, Early], visit: Callable, prompter, last: Optional[int] = None
    ) -> None:
        """Run the blocks, calling ``visit(number, before, prompts, after, hw, rope)`` after each.

        ``before`` and ``after`` are :class:`Tokens`. ``last`` is the block to stop after; only the
        tokens that ``out_type`` reads are computed in it. None runs all blocks on all tokens.
        """
        if not self.training:
            self.weights.check(self.pretrained)
        adapted = prompter is not False
        prompter = (self.prompter if prompter is None else prompter) or None
        early = img if isinstance(img, Early) else Early(0, self.embed(img), {})
        x, hw, ropes = early.embedded
        for number, out in early.outs.items():
            done = Tokens(out, self.num_prefix_tokens)
            visit(number, done, None, done, hw, None if ropes is None else ropes[number - 1])
        tokens = Tokens(x, self.num_prefix_tokens)
        start = self.num_layers + 1 if prompter is None else prompter.start_block
        prompts, state, temperature, extra, adapter = None, None, None, None, None
        observed = None if prompter is None else CURRENT.get()
        for number in range(early.number + 1, (last or self.num_layers) + 1):
            if number == start:
                prompts, state = prompter.first(tokens.patches, hw)
            if number >= start:
                temperature = prompter.temperature(number)
                extra, adapter = prompter.keys_values(number), prompter.adapter(number)
            if observed is not None and prompter.observes(number):
                observed.blocks[number] = tokens.without_prompts
            rope = None if ropes is None else ropes[number - 1]
            block = self.block(number, adapted)
            as_tokens = block is None or self.reads_prompts(number, prompter)
            before = tokens.with_prompts(prompts if as_tokens else None)
            if block is None:
                x = self._checkpointed(self.whole, number, before.x, rope, before.num_prompts)
            else:
                kv_prompts = None
                if prompts is not None and not as_tokens:
                    kv_prompts = prompter.fused_keys_values.get(number, prompts)
                read = out_range(self.out_type, before, number) if number == last else None
                x = self._block(
                    block, before.x, kv_prompts, temperature, read, rope,
                    before.num_prefix + before.num_prompts, extra, adapter,
                )
            tokens = Tokens(x, before.num_prefix, before.num_prompts)
            visit(number, before, prompts, tokens, hw, rope)
            if start <= number < (last or self.num_layers):
                out = tokens.prompts if prompter.reads_output(number) else None
                prompts, state = prompter.next(number, prompts, out, tokens.patches, state)

    def _block(
        self, block, x, kv_prompts, temperature, read, rope, leading, extra=None, adapter=None
    ) -> Tensor:
        run = compiled_block_forward() if self.compile_blocks else block_forward
        selective = self.with_cp == 'selective' and self.training
        args = (
            block, x, kv_prompts, temperature, read, selective, rope, leading, extra, adapter
        )
        return run(*args) if selective else self._checkpointed(run, *args)

    def plain_block(self, number: int, x: Tensor, rope: Optional[Tensor]) -> Tensor:
        """Block ``number`` of the plain ViT, (B, E+N, D) in and out."""
        block = self.block(number, adapted=False)
        if block is None:
            return self.whole(number, x, rope, 0)
        return self._block(block, x, None, None, None, rope, self.num_prefix_tokens)

    def _checkpointed(self, run: Callable, *args) -> Tensor:
        if not (self.with_cp and self.training):
            return run(*args)
        return checkpoint(run, *args, use_reentrant=False)

    def reads_prompts(self, number: int, prompter: Optional[Prompter]) -> bool:
        """Whether the outputs of block ``number`` at the prompts are read."""
        if prompter is None:
            return False
        by_method = number < self.num_layers and prompter.reads_output(number)
        return by_method or (self.out_type in READ_PROMPTS and number - 1 in self.out_indices)
