"""The protocol of the classification benchmarks: select on validation, then test once."""
