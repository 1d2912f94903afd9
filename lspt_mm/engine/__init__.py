"""Hooks, optimizer wrappers and the set-up of runs."""

from lspt_mm.engine.amp import Bf16OptimWrapper

__all__ = ['Bf16OptimWrapper']
