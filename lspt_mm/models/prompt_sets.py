"""Several prompt sets on one copy of their frozen ViT, chosen by name per call or image."""

import copy
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.checkpoints.prompt_only import base_fingerprint
from lspt_mm.checkpoints.records import RECORD, BaseRecord, from_tensor
from lspt_mm.errors import InputError
from lspt_mm.models.block_adapter import BlockAdapter
from lspt_mm.models.description import vit_size
from lspt_mm.models.lora import PARTS
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.models.prompters.base import OF_THE_VIT, Prompter, build_prompter
from lspt_mm.models.tuning import lora_rank


class PromptSets(nn.Module):
    """Tuned ViTs (prompts, LoRA) by name; their equal tensors are stored once.

    ::

        vit = PromptedViT(
            'base', pretrained='mae_pretrain_vit_base.pth', out_type='avg_tokens')
        vit.init_weights()
        sets = PromptSets(vit, {'birds': 'birds-1a2b3c4d.pth', 'dogs': 'dogs-5e6f7a8b.pth'})
        sets(images, 'birds')                       # all images with one set
        sets(images, ['birds', 'dogs', 'birds'])    # each image with its own

        sets = PromptSets()                         # whole models, each with its own head
        sets.add('roads', init_model('roads.py', 'roads.pth').backbone)
        sets.add('roofs', init_model('roofs.py', 'roofs.pth').backbone)

    In a mixed batch, images whose methods agree in all arguments and in their layout run through
    the ViT together, each with its own prompts; other methods run in a separate pass. The outputs
    are those of separate models. For inference only: the sets are in eval mode without gradients,
    and shared tensors must not be modified.

    Args:
        vit: The ViT of the files, with loaded weights; its own prompter is not used.
        files: Name to prompt-only checkpoint (path or URL), with or without a head.

    Raises:
        InputError: As :meth:`add`.

    Attributes:
        vits (dict): Name to :class:`PromptedBackbone`.
        others (dict): Name to a file's tensors outside the backbone (neck, head), by their names.
    """

    def __init__(
        self, vit: Optional[PromptedBackbone] = None, files: Optional[Mapping[str, str]] = None
    ):
        super().__init__()
        if vit is not None and vit.weights.source is None:
            raise InputError('PromptSets: the ViT has no weights; call init_weights() first')
        self.base = vit
        self.vits: Dict[str, PromptedBackbone] = {}
        self.others: Dict[str, Dict[str, Tensor]] = {}
        self._modules_of_sets = nn.ModuleList()
        self._kinds: Dict[str, str] = {}
        self._known: Dict[tuple, List[Tensor]] = {}
        if vit is not None:
            self._share(vit)
        for name, source in (files or {}).items():
            self.add(name, source)
        self.eval()

    def add(self, name: str, source: Union[str, PromptedBackbone]) -> int:
        """Add a set under ``name``: a ViT with prompts or LoRA, or a prompt-only checkpoint.

        Tensors of the ViT that are bit-identical to those of an earlier ViT are replaced by them;
        the prompter keeps its own. Load a ViT's weights and move it to its device before adding
        it.

        Returns:
            int: Bytes of the tensors that were replaced.

        Raises:
            InputError: For a name already in use; if a file is not a prompt-only checkpoint,
                belongs to another ViT or other features (``out_type``, ``final_norm``), or holds
                tuned tensors of the ViT itself (tune='bias' and the like).
        """
        if not isinstance(name, str):
            raise InputError(f'{name!r}: expected a string as the name of a set')
        if name in self.vits:
            raise InputError(f'{name!r}: there is a set of this name already')
        if isinstance(source, PromptedBackbone):
            vit, others = source, {}
        else:
            vit, others = self._from_file(str(source))
        vit.requires_grad_(False).eval()
        saved = self._share(vit)
        self.vits[name], self.others[name] = vit, others
        self._modules_of_sets.append(vit)
        ids = [id(tensor) for tensor in [*vit.own_tensors().values(), *_lora(vit)]]
        settings = {
            key: value for key, value in (vit.prompter_cfg or {}).items()
            if key not in vit.prompter.TRAINING_ONLY
        }
        output = (vit.out_type, vit.final_norm, tuple(vit.out_indices))
        layout = vit.prompter.layout() if vit.prompter is not None else ()
        self._kinds[name] = repr((sorted(settings.items()), layout, output, ids))
        return saved

    def _share(self, vit: PromptedBackbone) -> int:
        """Replace tensors of ``vit`` by known equal ones; remember the others."""
        saved = 0
        for name, own in vit.own_tensors().items():
            alike = self._known.setdefault((name, tuple(own.shape), own.dtype, own.device), [])
            known = next((other for other in alike if torch.equal(other, own)), None)
            if known is None:
                alike.append(own)
            elif known is not own:
                owner, _, leaf = name.rpartition('.')
                setattr(vit.get_submodule(owner), leaf, known)
                saved += own.numel() * own.element_size()
        return saved

    def _from_file(self, source: str) -> Tuple[PromptedBackbone, Dict[str, Tensor]]:
        """Load a file's prompts onto the base; also return the file's other tensors."""
        if self.base is None:
            raise InputError(f'{source}: PromptSets() was created without a ViT')
        state = read_checkpoint(source)
        state = state.get('state_dict', state)
        found = [key for key in state if str(key).split('.')[-1] == RECORD]
        if len(found) != 1:
            raise InputError(f'{source}: not a prompt-only checkpoint (publish_model.py makes one)')
        prefix = found[0][: -len(RECORD)]
        record = from_tensor(state[found[0]])
        rank = lora_rank(record.tune)
        if record.prompter is None and not rank:
            raise InputError(f'{source}: holds no prompts')
        self._check_base(source, record)
        for key, value in self.base.own_tensors().items():
            other = state.get(prefix + key)
            if other is not None and not _equal(other, value):
                raise InputError(
                    f'{source}: has its own {key} (tune={record.tune!r}, or another image '
                    'size); sets that share a ViT may differ in their prompts only'
                )
        tensors = self.base.own_tensors().values()
        vit = copy.deepcopy(self.base, {id(tensor): tensor for tensor in tensors})
        vit.prompter_cfg, vit.tune = record.prompter, record.tune
        vit.prompter = vit.lora = None
        if record.prompter is not None:
            vit.prompter = build_prompter(record.prompter, **vit_size(self.base))
            _load(vit.prompter, state, f'{prefix}prompter.', f'{source}: incomplete prompts')
            if vit.prompter.needs_preparation:
                raise InputError(f'{source}: its prompts were never started from data, nor trained')
        if rank:
            vit.lora = self.base.make_lora(rank, PARTS)
            _load(vit.lora, state, f'{prefix}lora.', f'{source}: its LoRA is incomplete or not on '
                  'all of queries, keys and values (then build its whole model, and add its '
                  'backbone)')
        vit.to(next(self.base.parameters()).device)
        return vit, {k: v for k, v in state.items() if not k.startswith(prefix)}

    def _check_base(self, source: str, record: BaseRecord) -> None:
        """Raise InputError if ``record`` belongs to another ViT or to other features."""
        own = self.base.describe()
        if record.arch != own.arch or record.output != own.output:
            raise InputError(
                f'{source}: was trained in a ViT with {record.arch} and {record.output}, this one '
                f'has {own.arch} and {own.output}: build it with the same'
            )
        found = base_fingerprint(own.tensors, record)
        if found != record.fingerprint:
            raise InputError(
                f'{source}: its prompts were trained on the ViT of {record.source} (fingerprint '
                f'{record.fingerprint[:12]}); this one, from {own.weights.source} ({found[:12]}), '
                'has other weights, another img_size or another precision (convert to half '
                'precision after the sets are loaded)'
            )

    def train(self, mode: bool = True) -> 'PromptSets':
        """Stay in eval mode: each set is trained separately, by the usual tools."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, img: Tensor, names: Union[str, Sequence[str]]) -> Tuple[Tensor, ...]:
        """Outputs of the ViT for images (B, 3, H, W).

        Args:
            img: Images, each normalised as in its task.
            names: One name for all, or one for each image.

        Raises:
            ValueError: For an unknown name, or if the number of names is not that of images.
        """
        listed = [names] * len(img) if isinstance(names, str) else list(names)
        if len(listed) != len(img):
            raise ValueError(f'{len(listed)} names for {len(img)} images: expected one for each')
        for name in listed:
            if name not in self.vits:
                raise ValueError(f'no prompt set {name!r}; there are {", ".join(self.vits)}')
        outs: Optional[List[Tensor]] = None
        for rows in self._passes(listed):
            members = [listed[row] for row in rows]
            vit = self.vits[members[0]]
            prompter = vit.prompter
            if prompter is not None and len(set(members)) > 1:
                prompter = PerImagePrompter({n: self.vits[n].prompter for n in members}, members)
            found = vit(img[rows], prompter)
            if outs is None:
                outs = [out.new_empty(len(img), *out.shape[1:]) for out in found]
            for out, part in zip(outs, found, strict=True):
                out[rows] = part
        return tuple(outs or ())

    def _passes(self, names: List[str]) -> List[List[int]]:
        """Group the rows of the batch that run together."""
        by_kind: Dict[str, List[int]] = {}
        for row, name in enumerate(names):
            by_kind.setdefault(self._kinds[name], []).append(row)
        return list(by_kind.values())


class PerImagePrompter(Prompter):
    """Gives each image the prompts of its own prompter; all have the same method and settings.

    Args:
        sets: Name to prompter.
        names: One for each image of the batch.
    """

    def __init__(self, sets: Mapping[str, Prompter], names: List[str]):
        one = sets[names[0]]
        size = {name: getattr(one, name) for name in OF_THE_VIT}
        super().__init__(one.num_tokens, start_block=one.start_block, **size)
        self._groups = [
            (sets[name], [i for i, n in enumerate(names) if n == name])
            for name in dict.fromkeys(names)
        ]
        self._size = len(names)

    def reads_output(self, l: int) -> bool:
        """As the method's own."""
        return self._groups[0][0].reads_output(l)

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, List[Any]]:
        """Every prompter's first prompts, combined to (B, P, D)."""
        found = [prompter.first(patches[rows], grid) for prompter, rows in self._groups]
        return self._together([p for p, _ in found]), [state for _, state in found]

    def next(self, l, prompts_in, prompts_out, patches, state):
        """Every prompter's next prompts, combined."""

        def of(tokens, rows):
            return None if tokens is None else tokens[rows]

        found = [
            prompter.next(l, of(prompts_in, rows), of(prompts_out, rows), patches[rows], own)
            for (prompter, rows), own in zip(self._groups, state, strict=True)
        ]
        return self._together([p for p, _ in found]), [own for _, own in found]

    def temperature(self, l: int) -> Optional[Tensor]:
        """Every image's temperature, from its own prompter: (B, 1, 1, 1)."""
        found = [prompter.temperature(l) for prompter, _ in self._groups]
        if found[0] is None:
            return None
        out = found[0].new_empty(self._size, 1, 1, 1)
        for (_, rows), value in zip(self._groups, found, strict=True):
            out[rows] = value
        return out

    def keys_values(self, l: int) -> Optional[Sequence[Tensor]]:
        """Every image's further keys and values, (B, 1 or H, P', d) each."""
        found = [prompter.keys_values(l) for prompter, _ in self._groups]
        if found[0] is None:
            return None
        return [self._together(list(parts)) for parts in zip(*found, strict=True)]

    def adapter(self, l: int) -> Optional[BlockAdapter]:
        """Each image's tokens are changed by its own prompter."""
        found = [(prompter.adapter(l), rows) for prompter, rows in self._groups]
        return None if found[0][0] is None else PerImageAdapter(found)

    def _together(self, prompts: List[Optional[Tensor]]) -> Optional[Tensor]:
        if prompts[0] is None:  # the method ends its prompts, for all images at the same block
            return None
        out = prompts[0].new_empty(self._size, *prompts[0].shape[1:])
        for (_, rows), part in zip(self._groups, prompts, strict=True):
            out[rows] = part.expand(len(rows), *part.shape[1:])
        return out


class PerImageAdapter(BlockAdapter):
    """Applies adapters to their images of a batch.

    Args:
        groups: Adapters, each with the rows of its images.
    """

    def __init__(self, groups: Sequence[Tuple[BlockAdapter, List[int]]]):
        self._groups = groups

    def attention_output(self, out: Tensor, normed: Tensor) -> Tensor:  # noqa: D102
        return self._by_rows(lambda one, rows: one.attention_output(out[rows], normed[rows]), out)

    def before_mlp(self, x: Tensor, block) -> Tensor:  # noqa: D102
        return self._by_rows(lambda one, rows: one.before_mlp(x[rows], block), x)

    def block_output(self, x: Tensor, leading: int) -> Tensor:  # noqa: D102
        return self._by_rows(lambda one, rows: one.block_output(x[rows], leading), x)

    def _by_rows(self, change: Callable, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        for adapter, rows in self._groups:
            out[rows] = change(adapter, rows)
        return out


def _load(module: nn.Module, state: Dict[str, Tensor], prefix: str, trouble: str) -> None:
    """Load all tensors below ``prefix``; the InputError starts with ``trouble``."""
    own = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise InputError(f'{trouble}: {error}') from error


def _lora(vit: PromptedBackbone) -> List[Tensor]:
    return [] if vit.lora is None else list(vit.lora.parameters())


def bytes_held(models: Iterable[nn.Module]) -> int:
    """Bytes of the models' parameters and buffers, each storage counted once."""
    sizes = {
        (str(tensor.device), tensor.untyped_storage().data_ptr()): tensor.untyped_storage().nbytes()
        for model in models
        for tensor in [*model.parameters(), *model.buffers()]
    }
    return sum(sizes.values())


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b), b)
