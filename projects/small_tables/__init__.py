"""Data of the small tables (docs/protocol.md)."""
