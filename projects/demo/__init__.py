"""The demo: rendered scenes, from nothing to two mIoUs."""
