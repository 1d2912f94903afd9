"""A Hugging Face cache folder with a random ViT in it, for ``timm:NAME`` where there is no hub."""

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

#: A commit's name, as the hub gives them.
_COMMIT = '0' * 40


def put_vit(home: Path, name: str = 'vit_small_patch16_224.dino', seed: int = 0) -> dict:
    """Write the cache that ``HF_HOME=home`` reads; returns the environment variables to set."""
    torch.manual_seed(seed)
    vit = timm.create_model(name, pretrained=False)
    with torch.no_grad():
        vit.pos_embed.normal_(std=0.5)  # so that places differ, as in a trained one
        # timm's start is so small that a class token hardly sees the image.
        for weight in (p for p in vit.blocks.parameters() if p.dim() == 2):
            weight.normal_(std=weight.size(1) ** -0.5)
    folder = home / 'hub' / f'models--timm--{name}'
    snapshot = folder / 'snapshots' / _COMMIT
    snapshot.mkdir(parents=True)
    (folder / 'refs').mkdir()
    (folder / 'refs' / 'main').write_text(_COMMIT)
    save_file({k: v.contiguous() for k, v in vit.state_dict().items()},
              str(snapshot / 'model.safetensors'))
    return {'HF_HOME': str(home), 'HF_HUB_OFFLINE': '1'}
