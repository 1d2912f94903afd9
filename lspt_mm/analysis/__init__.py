"""Analysis of what prompts do."""

from lspt_mm.analysis.attention import BlockAttention, attention_maps

__all__ = ['BlockAttention', 'attention_maps']
