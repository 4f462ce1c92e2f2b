PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOWEST ?= .venv-lowest
NEWEST ?= .venv-newest
BENCH ?= .venv-bench
DIST ?= .venv-dist
TRIED ?= .venv-tried
DEMO ?= runs/demo

DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs
PEERS := $(BENCH)/.installed-bench

# $(call venv,FOLDER) makes a virtual environment where there is none; $(call pip,FOLDER,SENTENCE,ARGUMENTS) runs pip there. The
# sentence is printed; what pip says goes to FOLDER/pip.log, and is shown in full where pip fails.
comma := ,
venv = @test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
pip = @echo "$(2) (what pip says: $(1)/pip.log)"; \
	$(1)/bin/python -m pip --disable-pip-version-check $(3) > $(1)/pip.log 2>&1 || { cat $(1)/pip.log >&2; exit 1; }

# A process for each core, with one thread each: the tensors of the tests are small.
SUITE := python -m pytest -m "not slow" --numprocesses=logical --maxprocesses=8 --dist=worksteal
smoke test test-lowest test-newest: export OMP_NUM_THREADS = 1

# Under a minute on two cores: the way of a user, and what is quick and likely to break.
SMOKE := tests/cli/runs/test_whole_way.py tests/zoo tests/store tests/training/test_config.py tests/learning/test_output.py \
	tests/learning/test_prior.py tests/conformance/test_law.py tests/conformance/test_restoring_law.py tests/sampling/test_grid.py

.DEFAULT_GOAL := help
.PHONY: help demo smoke test test-lowest test-newest lint bench gpu docs dist clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

demo: $(DEV) ## train on real handwritten digits, sample, and measure the samples
	$(BIN)/sdezoo train --sde gbm --loss mult-dsm --out $(DEMO) --overwrite
	$(BIN)/sdezoo sample $(DEMO) --sampler dpmpp-2m --steps 20 -n 898 --seed 0 --out $(DEMO)/samples/digits.npz --overwrite
	$(BIN)/sdezoo sample $(DEMO) --sampler dpmpp-2m --steps 20 -n 64 --seed 0 --out $(DEMO)/samples/digits.png --overwrite
	$(BIN)/python docs/experiments/digits_quality.py $(DEMO)/samples/digits.npz
	@echo "The picture of the samples: $(DEMO)/samples/digits.png"

smoke: $(DEV) ## run the quickest tests, and train, sample and check one process of each kind, in under a minute
	$(BIN)/$(SUITE) $(SMOKE)

test: $(DEV) ## run the tests, the slow studies left out
	$(BIN)/$(SUITE)

test-lowest: ## run the tests at the lowest versions of the dependencies that are declared, in an environment of their own
	$(call venv,$(LOWEST))
	$(call pip,$(LOWEST),Installing sdezoo at the lowest versions of its dependencies,install -c constraints-lowest.txt -e ".[dev]")
	$(LOWEST)/bin/$(SUITE)

test-newest: ## run the tests at the newest versions of the dependencies, ONNX and the Hub too, in an environment of their own
	$(call venv,$(NEWEST))
	$(call pip,$(NEWEST),Installing sdezoo at the newest versions of its dependencies,install --upgrade -e ".[dev$(comma)hub$(comma)onnx]")
	$(NEWEST)/bin/$(SUITE)

lint: $(DEV) ## check formatting, lint, import rules and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(PEERS) ## measure speed, memory and evaluations as ratios, beside other libraries, in an environment of their own
	$(BENCH)/bin/sdezoo bench

gpu: $(DEV) $(PEERS) ## on a machine with a GPU: the tests, then the demo's job there beside the CPU, then the bench
	$(BIN)/python docs/experiments/gpu.py --check
	$(MAKE) test
	$(BIN)/python docs/experiments/gpu.py
	$(BENCH)/bin/sdezoo bench

docs: $(DOCS) ## build the documentation and follow its links; a warning is an error
	$(BIN)/python -m sphinx -E -W --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/crawl.py docs/_build/html
	@echo "The documentation: docs/_build/html/index.html"

# What is tried is the wheel, outside the clone, in an environment that holds nothing else.
dist: ## build wheel and sdist in dist/, check them, install the wheel in a clean environment, and train from it
	$(call venv,$(DIST))
	$(call pip,$(DIST),Installing what builds and checks,install build hatchling twine)
	rm -rf dist $(TRIED)
	$(DIST)/bin/python -m build --no-isolation
	$(DIST)/bin/python -m twine check --strict dist/*
	$(call venv,$(TRIED))
	$(call pip,$(TRIED),Installing torch,install -c constraints.txt torch)
	$(call pip,$(TRIED),Installing the wheel,install -c constraints.txt dist/*.whl)
	cd $(TRIED) && bin/sdezoo train --data spirals --steps 20 --out run --overwrite --quiet
	cd $(TRIED) && bin/sdezoo report run --out run.html --overwrite
	@echo "What is released: dist/"

clean: ## remove caches and built documentation; environments and runs stay
	rm -rf docs/_build docs/jupyter_execute dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find sdezoo plugins cli tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# torch is by far the largest dependency: on its own, a failed download does not cost the others.
$(DEV): pyproject.toml constraints.txt
	$(call venv,$(VENV))
	$(call pip,$(VENV),Installing torch,install -c constraints.txt torch)
	$(call pip,$(VENV),Installing sdezoo and its tools,install -c constraints.txt -e ".[dev]")
	@touch $@

$(DOCS): $(DEV)
	$(call pip,$(VENV),Installing what builds the documentation,install -c constraints.txt -e ".[docs]")
	@touch $@

# The other libraries bring dependencies of their own, which stay out of the environment that sdezoo is tested in. One of them asks for
# torchvision, and uses nothing of it that is measured here. PyPI's is built for PyPI's torch: beside a torch of another build it cannot
# be imported, nor can diffusers then, which imports whatever torchvision it finds.
$(PEERS): pyproject.toml constraints.txt
	$(call venv,$(BENCH))
	$(call pip,$(BENCH),Installing torch beside the other libraries,install -c constraints.txt torch)
	$(call pip,$(BENCH),Installing sdezoo and the other libraries,install -c constraints.txt -e ".[bench]")
	$(call pip,$(BENCH),Removing torchvision,uninstall --yes torchvision)
	@touch $@
