"""Experiments of docs/lspt_study.md: what of LSPT helps, what costs, and why."""
