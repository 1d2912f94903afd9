"""Tuned models as files that run without this library."""

from lspt_mm.deployment.exportable import Exportable
from lspt_mm.deployment.exporting import (
    Exported,
    export_model,
    export_onnx,
    export_program,
    largest_difference,
    run_onnx,
)

__all__ = [
    'Exportable', 'Exported', 'export_model', 'export_onnx', 'export_program',
    'largest_difference', 'run_onnx',
]
