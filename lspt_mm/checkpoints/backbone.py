"""Describes a ViT by plain data: all that checkpoint code knows of a model."""

from typing import Any, Callable, Dict, FrozenSet, Mapping, NamedTuple, Optional, Protocol, Tuple
from typing import runtime_checkable as checkable

from torch import Tensor, nn

from lspt_mm.errors import InputError

#: ``BackboneWeights.source`` after loading a whole ViT of unknown origin from a state dict.
UNKNOWN = 'a checkpoint'
#: Prefixes of the names of modules that are added to a ViT.
ADDED = ('prompter.', 'lora.')


class BackboneWeights(NamedTuple):
    """Where the weights of a ViT come from.

    Attributes:
        source: As given to ``pretrained``, or "a checkpoint"; None while the ViT is random.
        modified: Names of tensors that differ from the source (resized to the model's grid, or
            without a counterpart there); None if unknown.
        prompts: Whether prompts were loaded from a state dict.
        incomplete: Whether a state dict was loaded that lacks the ViT, which is still random.
    """

    source: Optional[str] = None
    modified: Optional[Tuple[str, ...]] = None
    prompts: bool = False
    incomplete: bool = False

    def check(self, pretrained: Optional[str]) -> None:
        """Raise InputError if the ViT is random although it should have weights."""
        if self.source is not None:
            return
        if self.incomplete:
            raise InputError(
                'the loaded checkpoint lacks the weights of the ViT, which is random: load them '
                'first (pretrained= and init_weights()), or load a checkpoint that contains or '
                'names them. Only pretrained= reads files in another naming (timm, mmseg)'
            )
        if pretrained is not None:
            raise InputError(
                f'pretrained={pretrained!r} has not been read, the ViT is random: call '
                'init_weights(), or load a checkpoint (to run on a random ViT on purpose: '
                'pretrained=None)'
            )


class BackboneDescription(NamedTuple):
    """The present state of a prompted ViT, as plain data.

    Attributes:
        tensors: The ViT's own tensors, by the model's names, without the prompter's.
        trained: Names of the model's trained parameters.
        arch: embed_dims, num_layers, num_heads, patch_size; for timm also the model's name.
        output: out_type, final_norm: how features are taken.
        pools_before_norm: Whether features are averaged before the final norm.
        grid: Rows and columns of the position embedding.
        num_extra_tokens: Leading tokens that have a position embedding: 1 with a class token.
        interpolate_mode: How position embeddings are resized.
        prompter: The method's type and arguments as given; None without one.
        defaults: Default values of the method's arguments.
        training_only: Arguments of the method that change nothing in a trained model.
        tune: Which parameters are trained.
        pretrained: Source of the weights that the config names.
        weights: Where the weights come from.
        translate: Maps a file's tensors to the model's names, for timm; None for mmpretrain.
    """

    tensors: Dict[str, Tensor]
    trained: FrozenSet[str]
    arch: Dict[str, Any]
    output: Dict[str, Any]
    pools_before_norm: bool
    grid: Tuple[int, int]
    num_extra_tokens: int
    interpolate_mode: str
    prompter: Optional[dict]
    defaults: Mapping[str, Any]
    training_only: Tuple[str, ...]
    tune: str
    pretrained: Optional[str]
    weights: BackboneWeights
    translate: Optional[Callable[[Dict[str, Tensor]], Dict[str, Tensor]]] = None


@checkable
class DescribedBackbone(Protocol):
    """Interface of a backbone to the checkpoint code."""

    weights: BackboneWeights

    def describe(self) -> BackboneDescription:
        """Describe the present state of the backbone."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> Any:
        """As ``nn.Module.load_state_dict``."""


def prompted_backbones(model: nn.Module) -> Dict[str, DescribedBackbone]:
    """All prompted ViTs of a model, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, DescribedBackbone)}
