"""Soak test: runs that are killed repeatedly must end as an uninterrupted one."""
