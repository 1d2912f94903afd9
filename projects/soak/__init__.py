"""Runs that are killed again and again, and must end as one that was not."""
