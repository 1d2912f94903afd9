"""OpenMMLab's own inference functions take our configs' test pipelines as they are."""

import numpy as np
import pytest
import torch
from miniatures import LARGE_WINDOWS, run_tool, save_image, write_segmentation

import lspt_mm  # noqa: F401


@pytest.fixture
def trained(tmp_path):
    mini = write_segmentation(tmp_path)
    run = run_tool('train.py', mini.config, '--work-dir', tmp_path / 'work')
    assert run.code == 0, run.err[-3000:]
    checkpoint = (tmp_path / 'work' / 'last_checkpoint').read_text().strip()
    save_image(tmp_path / 'photo.jpg', 40, 56)
    return mini.config, checkpoint, tmp_path / 'photo.jpg'


def test_mmseg_init_model(trained):
    from mmseg.apis import inference_model, init_model

    config, checkpoint, photo = trained
    model = init_model(str(config), checkpoint, device='cpu', cfg_options=LARGE_WINDOWS)
    by_path = inference_model(model, str(photo)).pred_sem_seg.data
    assert by_path.shape == (1, 40, 56)
    from mmcv import imread

    by_array = inference_model(model, np.ascontiguousarray(imread(photo))).pred_sem_seg.data
    assert torch.equal(by_path, by_array)
