"""Hyper-parameters as published, per task. Nothing in here is ours, and nothing is chosen here."""

from typing import Dict, NamedTuple, Tuple


class GaPTValues(NamedTuple):
    """Batch size, P, learning rate (not scaled by the batch) and gate init."""

    batch_size: int
    num_tokens: int
    lr: float
    gate_init: float


#: Gated Prompt Tuning's table (arXiv 2306.05067), ViT-B/16 pre-trained by MAE and by MoCo v3.
#: Recipe: SGD with momentum 0.9, weight decay 0, prompt dropout 0.1, 100 epochs, 10 of them
#: warm-up, cosine by epoch.
GAPT: Dict[str, Dict[str, GaPTValues]] = {
    task: {'mae': GaPTValues(*mae), 'mocov3': GaPTValues(*mocov3)}
    for task, mae, mocov3 in (
        ('cub', (64, 100, 0.1, 5), (64, 100, 1, 5)),
        ('nabirds', (64, 100, 0.5, 5), (64, 100, 1, 5)),
        ('flowers', (64, 100, 0.1, 15), (64, 100, 1, 10)),
        ('dogs', (64, 100, 0.5, 15), (64, 100, 0.5, 10)),
        ('cars', (64, 100, 0.25, 5), (64, 100, 0.5, 5)),
        ('caltech101', (128, 1, 0.5, 5), (128, 10, 2.5, 4)),
        ('cifar', (128, 1, 0.25, 5), (128, 10, 1, 15)),
        ('dtd', (128, 1, 0.25, 1), (128, 10, 1, 5)),
        ('oxford_flowers102', (128, 1, 0.25, 5), (128, 5, 1, 7)),
        ('oxford_iiit_pet', (128, 1, 0.5, 10), (64, 100, 1, 1)),
        ('svhn', (128, 1, 0.1, 10), (128, 5, 1, 10)),
        ('sun397', (128, 1, 0.5, 10), (128, 1, 1, 4)),
        ('patch_camelyon', (128, 1, 0.05, 5), (128, 1, 1, 10)),
        ('eurosat', (128, 5, 0.1, 1), (128, 10, 1, 5)),
        ('resisc45', (128, 10, 0.25, 5), (64, 100, 1, 7)),
        ('diabetic_retinopathy', (128, 5, 0.05, 10), (128, 5, 0.5, 5)),
        ('clevr_count', (128, 1, 0.05, 15), (128, 5, 0.5, 5)),
        ('clevr_dist', (128, 1, 0.1, 15), (128, 5, 1, 10)),
        ('dmlab', (128, 1, 0.1, 5), (128, 1, 1, 5)),
        ('kitti', (128, 5, 0.1, 7), (128, 5, 1, 5)),
        ('dsprites_loc', (128, 1, 0.1, 5), (128, 5, 0.5, 5)),
        ('dsprites_ori', (128, 1, 0.05, 5), (128, 5, 0.5, 5)),
        ('smallnorb_azi', (128, 1, 0.1, 20), (128, 10, 0.5, 3)),
        ('smallnorb_ele', (128, 1, 0.05, 10), (128, 5, 0.5, 4)),
    )
}

#: VPT's grid (arXiv 2203.12119). The learning rate is ``base_lr * batch / 256``; the batch is 128,
#: and 64 from 100 prompts on.
VPT_BASE_LR: Tuple[float, ...] = (50, 25, 10, 5, 2.5, 1, 0.5, 0.25, 0.1, 0.05)
VPT_WEIGHT_DECAY: Tuple[float, ...] = (0.01, 0.001, 0.0001, 0)
VPT_NUM_TOKENS: Tuple[int, ...] = (1, 5, 10, 50, 100, 200)
#: VPT's seeds for the final runs.
VPT_SEEDS: Tuple[int, ...] = (42, 44, 82, 100, 800)


class BPTValues(NamedTuple):
    """Learning rate, weight decay of the prompts, weight decay of the head."""

    lr: float
    weight_decay: float
    head_weight_decay: float


#: Bilinear Prompt Tuning (arXiv 2506.22908), FGVC, both forms but where ``BPT_SHALLOW`` differs.
#: Recipe: AdamW, batch 32, 100 epochs, 10 of them warm-up, cosine by step to 1e-8. The weight
#: decays of Cars with MoCo v3 are not known.
BPT: Dict[str, Dict[str, BPTValues]] = {
    'cub': {'mae': BPTValues(5e-2, 5e-3, 0.5), 'mocov3': BPTValues(5e-2, 5e-3, 0.1)},
    'nabirds': {'mae': BPTValues(5e-2, 5e-3, 0.1), 'mocov3': BPTValues(5e-2, 1e-3, 0.05)},
    'flowers': {'mae': BPTValues(1e-1, 5e-3, 1.0), 'mocov3': BPTValues(5e-2, 1e-3, 0.05)},
    'dogs': {'mae': BPTValues(5e-2, 5e-3, 0.1), 'mocov3': BPTValues(5e-2, 2e-3, 0.1)},
    'cars': {'mae': BPTValues(5e-2, 5e-3, 0.1)},
}
BPT_SHALLOW: Dict[Tuple[str, str], BPTValues] = {('cars', 'mae'): BPTValues(5e-2, 2e-3, 0.1)}
