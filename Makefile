# Everything runs in environments that these targets make: .venv (the maintained OpenMMLab
# distributions) and .venv-openmmlab (the original ones). `make help` lists the targets.

PYTHON ?= python3.11
# Options of pip, such as another index: make venv PIP_ARGS='--index-url ...'
PIP_ARGS ?=
METHOD ?= lspt
DEMO_ARGS ?=
# Test processes. Each gets one thread of torch: more would fight over the cores.
JOBS ?= 2
PYTEST_ARGS ?=

DEV := requirements-dev.txt setup.py pyproject.toml
QUICK_TESTS = OMP_NUM_THREADS=1 $(1) -m pytest -m 'not slow and not pages and not docs' -q \
	-n $(JOBS) --dist loadfile $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow test-pages test-openmmlab docs lint wheel clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/.installed  ## make .venv: everything that the other targets need

demo: venv  ## tune a small ViT and draw it: METHOD=lspt, BACKBONE=timm:NAME, DEMO_ARGS='...'
	.venv/bin/python -m lspt_mm demo --method $(METHOD) $(if $(BACKBONE),--backbone $(BACKBONE)) $(DEMO_ARGS)

test: venv  ## quick tests: JOBS=2, PYTEST_ARGS='...'
	$(call QUICK_TESTS,.venv/bin/python)

test-slow: .venv/.docs  ## tests that take minutes: among them the docs' commands, from a wheel
	.venv/bin/python -m pytest -m slow -q $(PYTEST_ARGS)

test-pages: .venv/.docs  ## report and app in a browser (chromium, chromium-driver)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m 'pages and not slow' -q \
		-n $(JOBS) --dist loadfile $(PYTEST_ARGS)

test-openmmlab: .venv-openmmlab/.installed  ## quick tests on the original OpenMMLab releases
	$(call QUICK_TESTS,.venv-openmmlab/bin/python)

docs: .venv/.docs  ## build/site: the documentation; a warning is an error, and so is a number that the code does not give
	.venv/bin/python -m sphinx -n -W --keep-going -q -d build/doctrees docs build/site
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m 'docs and not slow' -q -n $(JOBS) $(PYTEST_ARGS)

lint: venv  ## style of the code, and which package may import which
	.venv/bin/ruff check .
	.venv/bin/lint-imports --no-cache

wheel: venv  ## dist/*.whl, with configs and tools in it
	rm -rf build
	.venv/bin/python -m pip wheel -q . --no-deps $(PIP_ARGS) -w dist

clean:  ## remove what builds and tests leave behind
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove the environments
	rm -rf .venv .venv-openmmlab

.venv/.installed: requirements.txt $(DEV)
	$(call make_venv,.venv,requirements.txt)

.venv/.docs: .venv/.installed requirements-docs.txt
	.venv/bin/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -r requirements-docs.txt
	@touch $@

.venv-openmmlab/.installed: requirements-openmmlab.txt $(DEV)
	$(call make_venv,.venv-openmmlab,requirements-openmmlab.txt)

# The stamp is written last: an interrupted installation is run again.
define make_venv
@command -v $(PYTHON) >/dev/null || { \
	echo "no $(PYTHON) here; name a Python 3.11 or later: make PYTHON=python3 ..." >&2; exit 1; }
@echo "Installing $(2) into $(1) (a minute or a few, mostly for torch; once) ..."
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
@$(1)/bin/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) \
	-r $(2) -r requirements-dev.txt -e .
@touch $(1)/.installed
@echo "$(1) is ready."
endef
