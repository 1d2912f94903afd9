"""Build a Runner that tests a checkpoint."""

from typing import Callable, Optional

from mmengine.config import Config
from mmengine.runner import Runner

from lspt_mm.apis.model import load_into_runner, read_model_checkpoint
from lspt_mm.engine.runner import build_runner


def build_test_runner(
    cfg: Config, checkpoint: str, pretrained: Optional[str] = None,
    change: Optional[Callable[[Config], None]] = None,
) -> Runner:
    """Build a Runner whose ``test`` is ready to run, as in ``tools/test.py``.

    Args:
        cfg: From :func:`lspt_mm.config.load.read_config`, with a ``work_dir`` and a ``launcher``.
        checkpoint: Full or prompt-only.
        pretrained: File of the ViT's weights, instead of the config's.
        change: Called with the config to change it, after the checkpoint was read.

    Raises:
        InputError: For inputs that are missing or damaged, and values that a class rejects.
    """
    content = read_model_checkpoint(cfg, checkpoint, pretrained)
    cfg.load_from, cfg.resume = checkpoint, False
    if change is not None:
        change(cfg)
    runner = build_runner(cfg, ('test_dataloader',), checkpoint_read=True)
    load_into_runner(runner, content)
    return runner
