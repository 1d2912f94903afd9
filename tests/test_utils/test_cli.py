"""What all commands have in common (lspt_mm.utils.cli)."""

import warnings

import pytest
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads import FCNHead
from PIL import Image

from lspt_mm.utils.cli import input_errors_as_messages


def test_a_head_of_two_classes_warns_of_nothing():
    def warned():
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter('always')
            with command():
                FCNHead(in_channels=4, channels=4, num_classes=2)
        return found

    init_default_scope('mmseg')
    command = warnings.catch_warnings  # mmseg's own
    assert warned()
    command = input_errors_as_messages
    assert not warned()


def test_the_limit_on_pixels_holds_again_after_a_command(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 123)
    with input_errors_as_messages():
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS == 123


def test_an_interrupt_is_a_word_and_a_code(capsys):
    with pytest.raises(SystemExit) as exit, input_errors_as_messages():
        raise KeyboardInterrupt
    assert exit.value.code == 130 and capsys.readouterr().err == 'interrupted\n'
