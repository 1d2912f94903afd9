"""Fast operators; each docstring has the eager form it stands for."""
