"""Frozen features, and linear classifiers that are fitted to them."""

from lspt_mm.probing.features import Features, head_features
from lspt_mm.probing.linear import PATCH_PATH, PATH, LinearFit, fit_linear
from lspt_mm.probing.patches import patch_features

__all__ = [
    'PATCH_PATH', 'PATH', 'Features', 'LinearFit', 'fit_linear', 'head_features',
    'patch_features',
]  # fmt: skip
