"""Ground floor: files, seeds, checks of arguments. Knows no model and nothing of OpenMMLab."""
