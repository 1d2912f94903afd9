"""Time and memory of methods on this machine."""
