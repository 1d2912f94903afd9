"""Several prompt sets on one frozen ViT, chosen by name for each call or for each image."""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from lspt_mm.checkpoints.io import read_checkpoint
from lspt_mm.checkpoints.prompt_only import (
    RECORD,
    base_fingerprint,
    from_tensor,
    measures,
    output_config,
)
from lspt_mm.errors import InputError
from lspt_mm.models.prompted_vit import PromptedViT
from lspt_mm.models.prompters.base import Prompter


class PromptSets(nn.Module):
    """One frozen ViT in memory, and the prompts of several tasks.

    ::

        vit = PromptedViT(
            'base', pretrained='mae_pretrain_vit_base.pth', out_type='avg_tokens')
        vit.init_weights()
        sets = PromptSets(vit, {'birds': 'birds-1a2b3c4d.pth', 'dogs': 'dogs-5e6f7a8b.pth'})
        sets(images, 'birds')                       # all images with one set
        sets(images, ['birds', 'dogs', 'birds'])    # each image with its own

    In a mixed batch, images whose methods agree in all their arguments run through the ViT
    together, each with its own prompts; other methods take a pass of their own. The outputs are
    those of separate models. For inference: the sets are in eval mode and get no gradient.

    Args:
        vit: A :class:`PromptedViT` with its weights loaded; its own prompter, if any, is not used.
        files: Name to prompt-only checkpoint (path or URL), with or without a head.

    Raises:
        InputError: If a file is no prompt-only checkpoint, belongs to another ViT or to features
            taken otherwise (``out_type``, ``final_norm``), or holds tuned tensors of the ViT itself
            (tune='bias' and the like), which cannot share it.

    Attributes:
        sets (dict): Name to prompter.
        others (dict): Name to the file's tensors beside the backbone (neck, head), by their names.
    """

    def __init__(self, vit: PromptedViT, files: Mapping[str, str]):
        super().__init__()
        if vit.weights_from is None:
            raise InputError('PromptSets: the ViT has no weights; call init_weights() first')
        self.vit = vit
        self.prompters = nn.ModuleList()
        self.sets: Dict[str, Prompter] = {}
        self.others: Dict[str, Dict[str, Tensor]] = {}
        self._kinds: Dict[str, str] = {}
        self.eval()
        for name, source in files.items():
            self.add(name, source)

    def add(self, name: str, source: str) -> None:
        """Load one more prompt-only checkpoint under ``name``.

        Raises:
            InputError: As the class; also for a name that is taken.
        """
        if not isinstance(name, str):
            raise InputError(f'{name!r}: expected a string as the name of a set')
        if name in self.sets:
            raise InputError(f'{name!r}: there is a set of this name already')
        state = read_checkpoint(str(source))
        state = state.get('state_dict', state)
        found = [key for key in state if str(key).split('.')[-1] == RECORD]
        if len(found) != 1:
            raise InputError(f'{source}: not a prompt-only checkpoint (publish_model.py makes one)')
        prefix = found[0][: -len(RECORD)]
        record = from_tensor(state[found[0]])
        if record.prompter is None:
            raise InputError(f'{source}: holds no prompts')
        self._check_base(source, record)
        own = self.vit.backbone_state_dict()
        for key, value in own.items():
            other = state.get(prefix + key)
            if other is not None and not _equal(other, value):
                raise InputError(
                    f'{source}: brings a {key} of its own (tune={record.tune!r}, or another image '
                    'size); sets that share a ViT may differ in their prompts only'
                )
        prompter = self.vit.build_prompter(record.prompter)
        inner = f'{prefix}prompter.'
        try:
            prompter.load_state_dict(
                {key[len(inner) :]: value for key, value in state.items() if key.startswith(inner)}
            )
        except RuntimeError as error:
            raise InputError(f'{source}: its prompts are not whole: {error}') from error
        if prompter.needs_preparation:
            raise InputError(f'{source}: its prompts were never started from data, nor trained')
        prompter.requires_grad_(False).eval()
        self.prompters.append(prompter.to(next(self.vit.parameters()).device))
        self.vit.fuse(prompter)
        self.sets[name] = prompter
        self.others[name] = {k: v for k, v in state.items() if not k.startswith(prefix)}
        settings = {k: v for k, v in record.prompter.items() if k not in prompter.TRAINING_ONLY}
        self._kinds[name] = repr(sorted(settings.items()))

    def _check_base(self, source: str, record) -> None:
        """Raise InputError if ``record`` is of another ViT, or of features taken otherwise."""
        if record.arch != measures(self.vit) or record.output != output_config(self.vit):
            raise InputError(
                f'{source}: was trained in a ViT with {record.arch} and {record.output}, this one '
                f'has {measures(self.vit)} and {output_config(self.vit)}: build it with the same'
            )
        found = base_fingerprint(self.vit.backbone_state_dict(), record)
        if found != record.fingerprint:
            raise InputError(
                f'{source}: its prompts were trained on the ViT of {record.source} (fingerprint '
                f'{record.fingerprint[:12]}); this one, from {self.vit.weights_from} '
                f'({found[:12]}), has other weights, another img_size or another precision (turn '
                'to half precision after the sets are loaded)'
            )

    def train(self, mode: bool = True) -> 'PromptSets':
        """Stay in eval mode: sets are trained one by one, by the usual tools."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, img: Tensor, names: Union[str, Sequence[str]]) -> Tuple[Tensor, ...]:
        """Outputs of the ViT for images (B, 3, H, W), as ``PromptedViT`` gives them.

        Args:
            img: Images, each normalised as its task has it.
            names: One name for all, or one for each image.

        Raises:
            ValueError: For a name there is no set of, or another number of names than images.
        """
        listed = [names] * len(img) if isinstance(names, str) else list(names)
        if len(listed) != len(img):
            raise ValueError(f'{len(listed)} names for {len(img)} images: expected one for each')
        for name in listed:
            if name not in self.sets:
                raise ValueError(f'no prompt set {name!r}; there are {", ".join(self.sets)}')
        outs: Optional[List[Tensor]] = None
        for rows, prompter in self._passes(listed):
            found = self.vit.forward_with(img[rows], prompter)
            if outs is None:
                outs = [out.new_empty(len(img), *out.shape[1:]) for out in found]
            for out, part in zip(outs, found, strict=True):
                out[rows] = part
        return tuple(outs or ())

    def _passes(self, names: List[str]) -> List[Tuple[List[int], Prompter]]:
        """Rows of the batch that run together, and the prompter they run with."""
        by_kind: Dict[str, List[int]] = {}
        for row, name in enumerate(names):
            by_kind.setdefault(self._kinds[name], []).append(row)
        passes = []
        for rows in by_kind.values():
            members = [names[row] for row in rows]
            if len(set(members)) == 1:
                passes.append((rows, self.sets[members[0]]))
            else:
                passes.append((rows, PromptsByImage(self.sets, members)))
        return passes


class PromptsByImage(Prompter):
    """Each image's prompts from its own prompter; all of them of one method and its settings.

    Args:
        sets: Name to prompter.
        names: One for each image of the batch.
    """

    def __init__(self, sets: Mapping[str, Prompter], names: List[str]):
        one = sets[names[0]]
        super().__init__(
            one.num_tokens,
            start_block=one.start_block,
            embed_dims=one.embed_dims,
            num_layers=one.num_layers,
            patch_size=one.patch_size,
        )
        self._groups = [
            (sets[name], [i for i, n in enumerate(names) if n == name])
            for name in dict.fromkeys(names)
        ]
        self._size = len(names)

    def reads_output(self, l: int) -> bool:
        """As the method says."""
        return self._groups[0][0].reads_output(l)

    def first(self, patches: Tensor) -> Tuple[Tensor, List[Any]]:
        """Every prompter's own first prompts, put together to (B, P, D)."""
        found = [prompter.first(patches[rows]) for prompter, rows in self._groups]
        return self._together([p for p, _ in found]), [state for _, state in found]

    def next(self, l, prompts_in, prompts_out, patches, state):
        """Every prompter's own next prompts."""

        def of(tokens, rows):
            return None if tokens is None else tokens[rows]

        found = [
            prompter.next(l, of(prompts_in, rows), of(prompts_out, rows), patches[rows], own)
            for (prompter, rows), own in zip(self._groups, state, strict=True)
        ]
        return self._together([p for p, _ in found]), [own for _, own in found]

    def temperature(self, l: int) -> Optional[Tensor]:
        """Every prompter's own temperature, for each image: (B, 1, 1, 1)."""
        found = [prompter.temperature(l) for prompter, _ in self._groups]
        if found[0] is None:
            return None
        out = found[0].new_empty(self._size, 1, 1, 1)
        for (_, rows), value in zip(self._groups, found, strict=True):
            out[rows] = value
        return out

    def _together(self, prompts: List[Optional[Tensor]]) -> Optional[Tensor]:
        if prompts[0] is None:  # the method ends its prompts, for all images at the same block
            return None
        out = prompts[0].new_empty(self._size, *prompts[0].shape[1:])
        for (_, rows), part in zip(self._groups, prompts, strict=True):
            out[rows] = part.expand(len(rows), -1, -1)
        return out


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b), b)
