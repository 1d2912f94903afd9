"""CITATION.cff agrees with the package; its form was checked with cffconvert 2.0.0."""

import pytest
import yaml
from miniatures import ROOT

from lspt_mm.version import __version__

pytestmark = pytest.mark.docs

CITATION = yaml.safe_load((ROOT / 'CITATION.cff').read_text())


def test_version_and_licence_are_the_packages():
    assert CITATION['version'] == __version__
    assert f"license='{CITATION['license']}'" in (ROOT / 'setup.py').read_text()
