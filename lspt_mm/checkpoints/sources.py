"""Where a pre-trained ViT may come from: a file, a URL, or a name of timm's."""

from typing import Optional

from torch import nn

from lspt_mm.checkpoints.families import Grid, Mapped, to_mmpretrain
from lspt_mm.checkpoints.files import read_checkpoint
from lspt_mm.errors import InputError

TIMM = 'timm:'
#: Where the converter's files say what grid their position embedding is of.
GRID = 'pos_embed_grid'


def read_vit(
    source: str,
    grid: Optional[Grid] = None,
    likely: Optional[Grid] = None,
) -> Mapped:
    """Read a ViT under mmpretrain's names.

    Args:
        source: Path or URL of a checkpoint of any known family (``#sha256=...`` behind it is
            checked), or ``timm:NAME``, a pre-trained ``VisionTransformer`` as
            ``timm.create_model`` knows it (with ``local-dir:FOLDER`` and ``hf-hub:USER/NAME``).
        grid: Rows and columns of a file's patches, where they are not a square.
        likely: The grid of the model to be, taken where the number of patches is no square.

    Returns:
        Mapped: The tensors under mmpretrain's names, and what was set aside.

    Raises:
        InputError: If it cannot be read, or holds no ViT.
    """
    if source.startswith(TIMM):
        return _read_timm(source[len(TIMM) :])
    checkpoint = read_checkpoint(source)
    meta = checkpoint.get('meta')
    if grid is None and isinstance(meta, dict) and isinstance(meta.get(GRID), (list, tuple)):
        grid = tuple(meta[GRID])  # as our converter leaves it
    try:
        return to_mmpretrain(checkpoint, grid, likely)
    except ValueError as error:
        raise InputError(f'{source}: {error}') from error


def _read_timm(name: str) -> Mapped:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm, its hub and its readers raise all sorts
        raise InputError(
            f'timm:{name}: timm cannot give this pre-trained model ({type(error).__name__}: '
            f'{str(error).splitlines()[0] if str(error) else "no message"}). '
            "timm.list_models('vit*', pretrained=True) lists the names; without a connection, "
            'name a file'
        ) from error
    if not isinstance(model, VisionTransformer):
        raise InputError(
            f'timm:{name}: is a {type(model).__name__}, expected a VisionTransformer of timm'
        )
    _check_function(name, model)
    mapped = to_mmpretrain(model.state_dict(), grid=model.patch_embed.grid_size)
    cfg = model.pretrained_cfg
    return mapped._replace(
        family='timm',
        num_heads=model.blocks[0].attn.num_heads,
        note=f'trained on images normalised by mean {cfg["mean"]}, std {cfg["std"]} (of 0 to 1): '
        'data_preprocessor has to do the same',
    )


def _check_function(name: str, model: nn.Module) -> None:
    """Refuse what timm computes otherwise than mmpretrain's ViT although the names agree."""
    block = model.blocks[0]
    found = []
    if not isinstance(getattr(block.mlp, 'act', None), nn.GELU):
        found.append(f'activation {type(getattr(block.mlp, "act", None)).__name__}, not GELU')
    if abs(getattr(block.norm1, 'eps', 1e-6) - 1e-6) > 1e-9:
        found.append(f'norms with eps {block.norm1.eps}, not 1e-6')
    if getattr(model, 'rope', None) is not None:
        found.append('rotary position embedding')
    if type(block).__name__ != 'Block':
        found.append(f'blocks of another form ({type(block).__name__})')
    if found:
        raise InputError(f'timm:{name}: not the ViT that mmpretrain computes: {"; ".join(found)}')
