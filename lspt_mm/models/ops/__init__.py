"""Fast operators; each docstring gives the equivalent eager code."""
