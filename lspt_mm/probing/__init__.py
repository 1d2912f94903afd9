"""Frozen features, and linear classifiers that are fitted to them."""

from lspt_mm.probing.features import Features, frozen_features
from lspt_mm.probing.linear import PATCH_PATH, PATH, LinearFit, fit_linear, fit_one_vs_rest

__all__ = [
    'PATCH_PATH', 'PATH', 'Features', 'LinearFit', 'fit_linear', 'fit_one_vs_rest',
    'frozen_features',
]
