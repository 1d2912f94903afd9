"""Packaging of lspt_mm."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
#: Folders of the checkout that a wheel carries in ``lspt_mm/.mim``, OpenMMLab's place for them.
CARRIED = ('configs', 'tools', 'projects')
BYTE_CODE = ('__pycache__', '*.py[cod]')


def version() -> str:
    """Version of the package, read without importing it."""
    text = (ROOT / 'lspt_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE).group(1)


def pins(filename: str, pattern: str) -> list:
    """Requirements of ``filename`` whose line begins with ``pattern``."""
    lines = (ROOT / filename).read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if re.match(pattern, line)]


def readme() -> str:
    """README, if this copy of the tree has one."""
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.is_file() else ''


class BuildWithConfigs(build_py):
    """Copies configs and tools into the built package; the source tree stays as it is.

    An editable installation copies nothing: ``lspt_mm.config.paths`` looks into the checkout.
    """

    def run(self):
        """Build the package, then add ``.mim``."""
        super().run()
        if not self.editable_mode:
            self._carry(Path(self.build_lib) / 'lspt_mm' / '.mim')

    def _carry(self, target: Path) -> None:
        # `build/` outlives a build: what has gone from the tree must go from there too.
        shutil.rmtree(target, ignore_errors=True)
        for folder in CARRIED:
            shutil.copytree(
                ROOT / folder, target / folder, ignore=shutil.ignore_patterns(*BYTE_CODE)
            )
        # mmengine and mim read this list of metafiles before they look for a config.
        index = ROOT / 'model-index.yml'
        text = index.read_text(encoding='utf-8') if index.is_file() else 'Import: []\n'
        (target / 'model-index.yml').write_text(text, encoding='utf-8')


setup(
    name='lspt_mm',
    version=version(),
    description='Visual prompt tuning of frozen Vision Transformers for the OpenMMLab stack',
    long_description=readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='The lspt_mm authors',
    keywords='visual prompt tuning, vision transformer, segmentation, classification, peft',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Operating System :: MacOS',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['lspt_mm', 'lspt_mm.*']),
    package_data={
        'lspt_mm': ['py.typed'], 'lspt_mm.report': ['page.html', 'page.css', 'viewer.js'],
    },
    # No mm* package here: the maintained and the original distributions share their import
    # names, either serves, and both in one environment break each other. The extras choose.
    install_requires=[
        'torch>=2.7', 'torchvision', 'timm>=1.0.28', 'numpy', 'scipy>=1.15', 'pillow>=11',
        'pooch>=1.8', 'safetensors', 'filelock>=3.13', 'rich', 'matplotlib', 'jinja2',
        'scikit-learn', 'submitit',
    ],
    extras_require={
        'onedl': pins('requirements.txt', r'onedl-'),
        # What tools/deployment/export.py writes and checks ONNX files with.
        'onnx': ['onnx', 'onnxruntime>=1.17', 'onnxscript'],
        # The page of projects/demo_app/demo_app.py.
        'app': ['gradio>=6.31,<7'],
        'openmmlab': pins('requirements-openmmlab.txt', r'mm|ftfy|regex|setuptools'),
    },
    entry_points={'console_scripts': ['lspt-mm = lspt_mm.__main__:main']},
    cmdclass={'build_py': BuildWithConfigs},
)
