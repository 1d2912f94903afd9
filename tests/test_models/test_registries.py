"""Found from the registries of mmseg and mmpretrain, without custom imports."""

import subprocess
import sys

import pytest

BUILD = """
import lspt_mm, sys
from mmengine.registry import init_default_scope
from {package}.registry import MODELS
if {scope!r}:
    init_default_scope({scope!r})
cfg = dict(
    type='lspt_mm.PromptedViT', img_size=16, patch_size=8, out_type={out_type!r},
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    prompter=dict(type='LSPT', num_tokens=2))
assert 'lspt_mm.models' not in sys.modules
model = MODELS.build(cfg)
print(type(model).__module__, type(model.prompter).__name__)
"""


# Each takes a process of its own, as in this one everything has been imported; and seconds, so
# that the scope is tried with one package only.
@pytest.mark.slow
@pytest.mark.parametrize(
    ('package', 'scope', 'out_type'),
    [
        ('mmseg', 'mmseg', 'featmap'),
        ('mmpretrain', None, 'cls_token'),
    ],
)
def test_builds_in_a_clean_process(package, scope, out_type):
    code = BUILD.format(package=package, scope=scope, out_type=out_type)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-2:] == ['lspt_mm.models.prompted_vit', 'LSPT']
