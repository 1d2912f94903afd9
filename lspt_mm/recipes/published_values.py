"""Hyper-parameters as published, per task. Nothing in here is ours, and nothing is chosen here."""

from typing import Dict, NamedTuple, Optional, Tuple


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


class AdamWValues(NamedTuple):
    """Learning rate, weight decay of the prompts and of the head, which leaves out its bias.

    ``rank`` is BPT's p; None is the method's own.
    """

    lr: float
    weight_decay: float
    head_weight_decay: float
    rank: Optional[int] = None


#: Bilinear Prompt Tuning (arXiv 2506.22908), FGVC, the shallow form, and the deep one but where
#: ``BPT_DEEP`` differs. Recipe: AdamW, batch 32, 100 epochs, 10 of them warm-up, cosine by step to
#: 1e-8. Not known: the weight decays of Cars with MoCo v3, and the deep form's with supervised
#: pre-training, where the shallow form's are taken.
BPT: Dict[str, Dict[str, AdamWValues]] = {
    'cub': {
        'mae': AdamWValues(5e-2, 5e-3, 0.5),
        'mocov3': AdamWValues(5e-2, 5e-3, 0.1),
        'supervised': AdamWValues(5e-3, 1e-1, 10, 25),
    },
    'nabirds': {
        'mae': AdamWValues(5e-2, 5e-3, 0.1),
        'mocov3': AdamWValues(5e-2, 1e-3, 0.05),
        'supervised': AdamWValues(1e-2, 5e-2, 5, 75),
    },
    'flowers': {
        'mae': AdamWValues(1e-1, 5e-3, 1.0),
        'mocov3': AdamWValues(5e-2, 1e-3, 0.05),
        'supervised': AdamWValues(1e-2, 5e-4, 10, 75),
    },
    'dogs': {
        'mae': AdamWValues(5e-2, 5e-3, 0.1),
        'mocov3': AdamWValues(5e-2, 2e-3, 0.1),
        'supervised': AdamWValues(5e-3, 1e-2, 3, 75),
    },
    'cars': {
        'mae': AdamWValues(5e-2, 2e-3, 0.1),
        'supervised': AdamWValues(2e-2, 1e-2, 3, 75),
    },
}
BPT_DEEP: Dict[Tuple[str, str], AdamWValues] = {
    ('cars', 'mae'): AdamWValues(5e-2, 5e-3, 0.1),
    ('nabirds', 'mae'): AdamWValues(5e-2, 5e-3, 0.3),
}

#: Self-Prompt Tuning (arXiv 2402.02382), the rows of its README. Recipe: BPT's; P is 20 (deep) or
#: 100 (shallow).
SPT: Dict[str, Dict[str, AdamWValues]] = {
    'cub': {'mae': AdamWValues(5e-2, 1e-2, 0.5)},
    'dogs': {'supervised': AdamWValues(1e-3, 1e-2, 3.0)},
}
