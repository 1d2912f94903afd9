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


def test_has_what_the_format_requires_and_nothing_it_does_not_know():
    required = {'authors', 'cff-version', 'message', 'title'}
    optional = {'abstract', 'keywords', 'license', 'type', 'version'}
    assert required <= set(CITATION) <= required | optional
    assert CITATION['cff-version'] == '1.2.0' and CITATION['type'] == 'software'
    assert [set(author) for author in CITATION['authors']] == [{'name'}]
