"""Published top-1 accuracies of ViT-B/16, for comparison with ours. None was measured here."""

from typing import Dict, Tuple

#: Where a row is from. Three sources choose the best epoch on the test images.
GAPT = 'arXiv 2306.05067'
BPT = 'arXiv 2506.22908, chosen on test'
DAVPT = 'arXiv 2505.23694, chosen on test'
#: E2VPT's with pruning, as DA-VPT's paper prints them.
E2VPT = 'arXiv 2307.13770, with pruning'
VAPT, VIPAMIN = 'arXiv 2501.18936', 'arXiv 2510.16446'

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
}
FGVC.update({
    ('da-vpt', 'mae'): (DAVPT, {'mean': 82.17}), ('da-vpt', 'mocov3'): (DAVPT, {'mean': 85.02}),
    ('da-vpt-plus', 'mae'): (DAVPT, {'mean': 83.20}),
    ('da-vpt-plus', 'mocov3'): (DAVPT, {'mean': 86.16}),
})

GROUPS = ('natural', 'specialized', 'structured')
#: The same for VTAB-1K's groups; 'mean of 19 tasks' is what the paper calls its mean.
VTAB1K: Dict[Tuple[str, str], Tuple[str, Dict[str, float]]] = {
    (method, pretraining): (
        source,
        dict(zip((*GROUPS, 'mean of 19 tasks'), values, strict=False)),  # some print no mean
    )
    for source, pretraining, method, values in (
        (GAPT, 'mae', 'vpt', (39.96, 69.65, 27.50, 40.96)),
        (GAPT, 'mae', 'vpt-deep', (36.02, 60.61, 26.57, 37.22)),
        (GAPT, 'mae', 'gated', (47.61, 76.86, 36.80, 49.22)),
        (GAPT, 'mocov3', 'vpt', (67.34, 82.26, 37.55, 57.94)),
        (GAPT, 'mocov3', 'vpt-deep', (70.27, 83.04, 42.38, 61.22)),
        (GAPT, 'mocov3', 'gated', (74.84, 83.38, 49.10, 65.80)),
        (VAPT, 'mae', 'vapt', (59.23, 79.10, 51.49)),
        (VAPT, 'mocov3', 'vapt', (79.54, 86.92, 59.41)),
        (VIPAMIN, 'mae', 'vipamin-shallow', (62.60, 79.96, 57.47, 64.09)),
        (VIPAMIN, 'mocov3', 'vipamin-shallow', (76.75, 84.14, 56.68, 69.86)),
        (E2VPT, 'mae', 'e2vpt', (59.52, 77.80, 44.65)),
        (E2VPT, 'mocov3', 'e2vpt', (76.47, 87.28, 54.91)),
        (DAVPT, 'mae', 'da-vpt', (62.14, 79.14, 54.31)),
        (DAVPT, 'mocov3', 'da-vpt', (74.24, 83.21, 55.23)),
        (DAVPT, 'mae', 'da-vpt-plus', (66.59, 82.96, 59.28)),
        (DAVPT, 'mocov3', 'da-vpt-plus', (76.86, 84.71, 58.98)),
    )
}
