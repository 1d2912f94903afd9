"""Frozen features, and linear classifiers that are fitted to them."""

from lspt_mm.probing.features import Features, head_features
from lspt_mm.probing.linear import LinearFit, fit_linear

__all__ = ['Features', 'LinearFit', 'fit_linear', 'head_features']
