"""Frozen features, and linear classifiers that are fitted to them."""

from lspt_mm.probing.features import Features, frozen_features
from lspt_mm.probing.linear import PATCH_PATH, PATH, LinearFit, fit_linear

__all__ = ['PATCH_PATH', 'PATH', 'Features', 'LinearFit', 'fit_linear', 'frozen_features']
