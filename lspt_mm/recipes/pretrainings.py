"""The pre-trainings of classification: file, normalisation, and the features for the head."""

from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from lspt_mm.utils.checks import check_choice
from lspt_mm.utils.images import IMAGENET_MEAN, IMAGENET_STD


class Pretraining(NamedTuple):
    """A pre-trained ViT; in the benchmarks ViT-B/16.

    ``out_type`` follows GaPT's protocol (arXiv 2306.05067): for MAE the mean of prompts and
    patches after the frozen final norm, otherwise the class token. ``mean`` and ``std`` are for
    RGB values of 0 to 255.
    """

    pretrained: str
    out_type: str
    source: str
    mean: Tuple[float, ...] = IMAGENET_MEAN
    std: Tuple[float, ...] = IMAGENET_STD
    #: Arguments of the backbone, where it is more than an arch and a patch size.
    backbone: Mapping[str, Any] = MappingProxyType({'type': 'lspt_mm.PromptedViT'})
    measures: Mapping[str, Any] = MappingProxyType({})  #: arch and patch_size, where known


#: Name of the pre-training to the pre-training.
PRETRAININGS: Dict[str, Pretraining] = {
    'mae': Pretraining(
        'pretrained/mae_pretrain_vit_base.pth', 'avg_tokens',
        'the official MAE ViT-B/16 (encoder only), from '
        'https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth (CC BY-NC 4.0)',
    ),
    'mocov3': Pretraining(
        'pretrained/vit-b-300ep.pth.tar', 'cls_token',
        'the official MoCo v3 ViT-B/16 of 300 epochs, from '
        'https://dl.fbaipublicfiles.com/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar (CC BY-NC 4.0)',
    ),
    'supervised': Pretraining(
        'pretrained/ViT-B_16.npz', 'cls_token',
        "the original ViT-B/16 trained on ImageNet-21k's labels, from "
        'https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz (Apache-2.0)',
        (127.5,) * 3, (127.5,) * 3,
    ),
}


def get_pretraining(
    name: str,
    arch: Union[str, dict, None] = None,
    patch_size: Optional[int] = None,
    model: Optional[str] = None,
) -> Pretraining:
    """The pre-training of that name, or of weights: ``timm:NAME`` or a file.

    Args:
        name: One of :data:`PRETRAININGS`, of :data:`~lspt_mm.recipes.vits.ALIASES`, ``timm:NAME``
            or a path.
        arch, patch_size, model: Of a file, as in :func:`~lspt_mm.recipes.vits.vit_of`.

    Raises:
        ValueError: If it is none of these.
        InputError: If the weights are not those of a ViT.
    """
    from lspt_mm.checkpoints.download import existing_file
    from lspt_mm.checkpoints.load_backbone import TIMM
    from lspt_mm.recipes.vits import ALIASES, vit_of

    if not (name in ALIASES or name.startswith(TIMM) or existing_file(name)):
        check_choice('pretraining', name, (*PRETRAININGS, *ALIASES, f'{TIMM}NAME', 'a file'))
        if model is not None:
            raise ValueError(f'model={model!r}: for a file; pretraining={name} determines it')
        return PRETRAININGS[name]
    vit = vit_of(name, arch, patch_size, model)
    measures = dict(arch=vit.arch, patch_size=vit.patch_size)
    return Pretraining(
        vit.source, vit.out_type, 'given', vit.mean, vit.std, backbone=vit.backbone,
        measures=measures,
    )
