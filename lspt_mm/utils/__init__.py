"""Basic helpers: files, images, seeds, checks of arguments. Independent of models."""
