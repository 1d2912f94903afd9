import os
import tempfile

import lspt_mm  # noqa: F401  (its repairs must come before any test's import of torchvision)

# Tools that tests run remember what data they have checked; not in the user's cache.
_cache = tempfile.TemporaryDirectory()
os.environ['LSPT_MM_CACHE'] = _cache.name


def pytest_configure(config):
    if not hasattr(config, 'workerinput'):
        # On a new machine yapf writes its grammar into a cache, which workers would read half done.
        from yapf.yapflib import yapf_api  # noqa: F401


def pytest_collection_finish():
    import miniatures

    miniatures.no_needless_work()
