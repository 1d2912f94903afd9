"""Found from the registries of mmseg and mmpretrain, without custom imports."""

import subprocess
import sys

import pytest

BUILD = """
import lspt_mm
from {package}.registry import MODELS
{scope}
model = MODELS.build(dict(
    type='lspt_mm.PromptedViT',
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=16, patch_size=8, out_type='{out_type}', prompter=dict(type='LSPT', num_tokens=2)))
assert 'lspt_mm.models' in __import__('sys').modules
print(type(model).__module__, type(model.prompter).__name__)
"""
SCOPE = """
from mmengine.registry import init_default_scope
init_default_scope('{package}')
"""


# Each takes a process of its own: in this one everything has been imported.
@pytest.mark.parametrize('default_scope', [False, True], ids=['no-scope', 'default-scope'])
@pytest.mark.parametrize(('package', 'out_type'), [('mmseg', 'featmap'), ('mmpretrain', 'raw')])
def test_builds_in_a_clean_process(package, out_type, default_scope):
    scope = SCOPE.format(package=package) if default_scope else ''
    code = BUILD.format(package=package, scope=scope, out_type=out_type)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-2:] == ['lspt_mm.models.prompted_vit', 'LSPT']
