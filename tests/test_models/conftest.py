"""Imported before any test file of this folder."""

# First of all: where torchvision is not whole, this makes timm and mmpretrain importable.
import lspt_mm  # noqa: F401
