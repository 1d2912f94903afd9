"""MMEngine's loader of checkpoints learns to read safetensors, with its metadata as ``meta``."""

from mmengine.runner.checkpoint import CheckpointLoader

from lspt_mm.checkpoints.files import read_checkpoint


def load_from_safetensors(filename: str, map_location=None) -> dict:
    """Read a .safetensors file for ``mmengine.runner.load_checkpoint`` and all that calls it."""
    return read_checkpoint(filename)  # on the CPU; load_state_dict copies to where the model is


def register() -> None:
    """Make it known; doing so again changes nothing."""
    # MMEngine takes the first of its patterns that matches a name, this one before the local one.
    CheckpointLoader.register_scheme(r'.*\.safetensors$', load_from_safetensors, force=True)
