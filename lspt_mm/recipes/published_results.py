"""Published top-1 accuracies of ViT-B/16, for comparison with ours. None was measured here."""

from typing import Dict, Tuple

#: Where a row is from.
GAPT, BPT = 'arXiv 2306.05067', 'arXiv 2506.22908'

#: (method, pre-training) to (source, accuracy per data set).
FGVC: Dict[Tuple[str, str], Tuple[str, Dict[str, float]]] = {
    (method, pretraining): (
        source,
        dict(zip(('cub', 'nabirds', 'flowers', 'dogs', 'cars', 'mean'), values, strict=True)),
    )
    for source, pretraining, method, values in (
        (GAPT, 'mae', 'vpt', (42.15, 57.43, 69.15, 77.07, 43.38, 57.84)),
        (GAPT, 'mae', 'vpt-deep', (68.33, 65.22, 80.05, 78.83, 67.67, 72.02)),
        (GAPT, 'mae', 'gated', (70.56, 67.26, 78.55, 78.90, 71.70, 73.39)),
        (GAPT, 'mocov3', 'vpt', (79.05, 72.92, 90.47, 81.97, 71.91, 79.26)),
        (GAPT, 'mocov3', 'vpt-deep', (82.67, 75.99, 94.41, 83.33, 79.18, 83.12)),
        (GAPT, 'mocov3', 'gated', (82.86, 76.02, 93.71, 83.37, 79.02, 83.00)),
        (BPT, 'mae', 'full', (80.55, 77.87, 91.71, 80.38, 83.51, 82.80)),
        (BPT, 'mae', 'bilinear', (77.86, 72.03, 90.37, 81.91, 79.77, 80.39)),
        (BPT, 'mae', 'bilinear-deep', (82.00, 78.49, 93.72, 82.67, 86.11, 84.60)),
        (BPT, 'mocov3', 'full', (81.75, 78.14, 94.52, 81.19, 85.67, 84.25)),
        (BPT, 'mocov3', 'bilinear', (84.39, 76.71, 95.84, 84.46, 83.84, 85.05)),
        (BPT, 'mocov3', 'bilinear-deep', (85.28, 78.44, 96.45, 86.17, 86.43, 86.55)),
    )
}  # fmt: skip

GROUPS = ('natural', 'specialized', 'structured')
#: The same for VTAB-1K's groups; 'mean of 19 tasks' is what the paper calls its mean.
VTAB1K: Dict[Tuple[str, str], Tuple[str, Dict[str, float]]] = {
    (method, pretraining): (
        GAPT,
        dict(zip((*GROUPS, 'mean of 19 tasks'), values, strict=True)),
    )
    for pretraining, method, values in (
        ('mae', 'vpt', (39.96, 69.65, 27.50, 40.96)),
        ('mae', 'vpt-deep', (36.02, 60.61, 26.57, 37.22)),
        ('mae', 'gated', (47.61, 76.86, 36.80, 49.22)),
        ('mocov3', 'vpt', (67.34, 82.26, 37.55, 57.94)),
        ('mocov3', 'vpt-deep', (70.27, 83.04, 42.38, 61.22)),
        ('mocov3', 'gated', (74.84, 83.38, 49.10, 65.80)),
    )
}
