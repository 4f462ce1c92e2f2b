PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOWEST ?= .venv-lowest
DEMO ?= runs/demo

DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs
BENCH := $(VENV)/.installed-bench
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# A process for each core, with one thread each: the tensors of the tests are small.
SUITE := python -m pytest -m "not slow" --numprocesses=logical --maxprocesses=8 --dist=worksteal
test test-lowest: export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest lint bench docs clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

demo: $(DEV) ## train on real handwritten digits, sample, and measure the samples
	$(BIN)/sdezoo train --sde gbm --loss mult-dsm --out $(DEMO) --overwrite
	$(BIN)/sdezoo sample $(DEMO) --sampler dpmpp-2m --steps 20 -n 898 --seed 0 --out $(DEMO)/samples/digits.npz --overwrite
	$(BIN)/sdezoo sample $(DEMO) --sampler dpmpp-2m --steps 20 -n 64 --seed 0 --out $(DEMO)/samples/digits.png --overwrite
	$(BIN)/python docs/digits_quality.py $(DEMO)/samples/digits.npz
	@echo "The picture of the samples: $(DEMO)/samples/digits.png"

test: $(DEV) ## run the tests, the slow studies left out
	$(BIN)/$(SUITE)

test-lowest: ## run the tests at the lowest versions of the dependencies that are declared, in an environment of their own
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check -c constraints-lowest.txt -e ".[dev]"
	$(LOWEST)/bin/$(SUITE)

lint: $(DEV) ## check formatting, lint, import rules and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(BENCH) ## measure speed, memory and evaluations as ratios, beside other libraries
	$(BIN)/sdezoo bench

docs: $(DOCS) ## build the documentation; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "The documentation: docs/_build/html/index.html"

clean: ## remove caches and built documentation; the environment and runs stay
	rm -rf docs/_build docs/jupyter_execute dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find sdezoo plugins cli tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# torch is by far the largest dependency: on its own, a failed download does not cost the others.
$(DEV): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e ".[dev]"
	@touch $@

$(DOCS): $(DEV)
	$(PIP) -e ".[docs]"
	@touch $@

$(BENCH): $(DEV)
	$(PIP) -e ".[bench]"
	@touch $@
