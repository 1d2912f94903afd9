"""Pre-training of the demo's ViT: masks of eight kinds of surroundings, on 16,000 rendered scenes.

The other eight classes of the demo are in the pictures, but their masks count for nothing here, as
a big ViT has seen much that nobody labelled. Other seeds than the demo's: no scene is in both.

`vit_scenes.safetensors` is the outcome of `python -m lspt_mm demo --pretrain` (seed 1000, a thread
of an AMD EPYC beside other work, 80 minutes, 2026-11-29): mIoU 77.2 on its eight classes.
`vit_scenes.log.jsonl` is its log. The weights are ours, under this repository's licence.
"""

from pathlib import Path

import lspt_mm
from projects.demo.practice_data import OTHER, write_photos_and_masks
from projects.demo.scenes import CLASSES

#: The weights that this made, float16, in mmpretrain's names; without a final norm.
WEIGHTS = Path(__file__).with_name('vit_scenes.safetensors')
ARCH = {'embed_dims': 128, 'num_layers': 8, 'num_heads': 4, 'feedforward_channels': 512}
PATCH = 16
SIZE = 192
SEED = 1000
SPLITS = {'train': 16000, 'val': 200}
#: Classes whose masks are learnt from.
LABELLED = ('sky', 'mountain', 'water', 'grass', 'road', 'sand', 'building', 'tree')
OPTIONS = {
    'arch': ARCH, 'patch_size': PATCH, 'crop': 160, 'short_side': SIZE, 'mode': 'whole',
    'batch_size': 32, 'iters': 5000, 'lr': 1e-3, 'linear_lr': 1e-3, 'balance': 'none',
    'train_cfg.val_interval': 1000, 'default_hooks.checkpoint.interval': 500,
}


def pretrain(out: Path, quick: bool = False) -> Path:
    """Pre-train below ``out``, from where an earlier call was interrupted; the weights' file."""
    import torch
    from safetensors.torch import save_file
    from timm.models.vision_transformer import VisionTransformer

    weights = out / WEIGHTS.name
    if weights.is_file():
        return weights
    scenes, start = out / 'scenes', out / 'random.pth'
    options = dict(OPTIONS)
    if quick:
        options.update({'iters': 2, 'batch_size': 2, 'train_cfg.val_interval': 2})
    if not (scenes / 'classes.txt').is_file():  # which is written last
        write_photos_and_masks(scenes, dict.fromkeys(SPLITS, 8) if quick else SPLITS, SIZE, SEED)
    if not start.is_file():
        torch.manual_seed(SEED)
        vit = VisionTransformer(
            img_size=SIZE, patch_size=PATCH, embed_dim=ARCH['embed_dims'], num_classes=0,
            depth=ARCH['num_layers'], num_heads=ARCH['num_heads'],
        )
        torch.save(vit.state_dict(), start)
    run = lspt_mm.train_segmentation(
        scenes / 'images', scenes / 'masks', out / 'run', classes=scenes / 'classes.txt',
        ignore=[OTHER, *(name for name in CLASSES if name not in LABELLED)], backbone=str(start),
        method='full', head='linear', seed=SEED, options=options, resume=True,
    )
    vit = run.model.backbone.state_dict()
    save_file({name: tensor.half().contiguous() for name, tensor in vit.items()}, weights)
    return weights
