import lspt_mm  # noqa: F401  (its repairs must come before any test's import of torchvision)
