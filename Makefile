# Headstart. `make` alone prints what there is.
# Overridable: PYTHON=python3.12, VENV=.venv, ARGS="..." (passed to the main job or to pytest)

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
BIN    := $(VENV)/bin
# A stamp is named after what it was made from, so an unchanged tree installs nothing.
DIGEST := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
CODE   := flows tasks prior_engine prior_store
STORE  ?= headstart-store
# Tests run side by side, a file at a time, in one process a core; ARGS="-n 0" takes them one after the other.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses=4 --dist loadfile --no-loadscope-reorder
# Hundreds of test files are compiled once and not in every process, also where the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

##@ Everyday
.PHONY: help setup run quick test
help: ## Show this list
	@awk 'BEGIN {FS = ":.*##"; printf "Usage: make <target>\n"} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*##/ {printf "  %-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.run-$(DIGEST) ## Make .venv with everything that a run needs (idempotent, quick when nothing changed)

run: setup ## Run the main job: the demo sheet on the embedded demo model; says where to look
	@$(BIN)/headstart run sheet=demo store=$(STORE) $(ARGS)

quick: dev ## In a minute or two, before a commit: format, lint, types, layers, spelling, and all tests that start no process
	@begun=$$(date +%s); $(MAKE) --no-print-directory -k -j2 $(SYNC) quick-tests $(READ); ended=$$?; \
	  echo "took $$(($$(date +%s) - begun)) s"; exit $$ended

test: dev ## Run the whole test suite
	@$(PYTEST) $(ARGS)

##@ Checking
# What is judged by reading the code, without running it.
READ := format lint types layers spelling
# Each part of `make quick` speaks when it has ended, where make is able to hold it back so long.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: check quick-tests drills-short $(READ) docs dev
check: $(READ) docs coverage drills-short ## All that CI runs: format, lint, types, layers, spelling, docs, tests, short drills

quick-tests: dev
	@$(PYTEST) -q -m quick --hypothesis-profile=quick --durations=5 --durations-min=2 $(ARGS)

drills-short: dev
	@$(BIN)/python -m benchmarks.drills.run --short

format: dev ## Check the formatting (make fix corrects it)
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted; run: make fix"; exit 1; }

lint: dev ## Check the code for mistakes
	@$(BIN)/ruff check --quiet .

types: dev ## Check the types of the four packages
	@$(BIN)/mypy

layers: dev ## Check who may import whom
	@$(BIN)/lint-imports --no-logo

spelling: dev ## Check the spelling
	@$(BIN)/codespell

docs: dev ## Check that the generated reference pages are fresh
	@$(BIN)/python -m docs.generate --check

.PHONY: coverage fix docs-write screenshots
coverage: dev ## Run the tests with coverage; under 90 % of engine or store is a failure
	@$(MAKE) --no-print-directory test ARGS="--cov --cov-report= $(ARGS)"
	@$(BIN)/coverage combine --quiet 2>/dev/null || true
	@$(BIN)/coverage report --format=total | sed 's/^/coverage of all four packages: /; s/$$/ %/'
	@for part in prior_engine prior_store; do \
	  $(BIN)/coverage report --include="$$part/*" --skip-covered --fail-under=90 || \
	    { echo "$$part is tested to less than 90 % of its lines and branches; the lines without a test stand above"; exit 1; }; done

fix: dev ## Format, and correct what a machine can correct
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

docs-write: dev ## Write the generated reference pages
	@$(BIN)/python -m docs.generate

screenshots: dev ## Take the pictures of UI and report from a real batch (needs Chromium; ARGS=FOLDER says where to)
	@$(BIN)/python -m docs.screenshots $(ARGS)

.PHONY: audit
audit: ## Compare the pinned packages with the known advisories (needs the network)
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet --disable-pip-version-check pip-audit; }
	@$(PYTHON) -c 'import urllib.request; urllib.request.urlopen("https://pypi.org/pypi/pip/json", timeout=10)' 2>/dev/null || \
	  { echo "NOT AUDITED: https://pypi.org, where the advisories are, cannot be reached from here"; exit 1; }
	@$(VENV)-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

##@ Measuring
.PHONY: drills bench bench-gpu fidelity demo-train
drills: dev ## Do harm to real batches, try attacks, and print what came of it (half an hour; ARGS=--short: three minutes)
	@$(BIN)/python -m benchmarks.drills.run $(ARGS)

bench: dev ## Run the benchmarks (minutes; results to benchmarks/results)
	@for script in $(wildcard benchmarks/engine/*.py benchmarks/store/*.py benchmarks/workflow/*.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench-gpu: dev ## Run what needs a CUDA device
	@for script in benchmarks/gpu/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

fidelity: dev ## Measure what a prior is worth on the demo model; writes docs/fidelity.md (over an hour on two cores)
	@$(MAKE) --no-print-directory -j2 fidelity-t2v fidelity-i2v
	@$(BIN)/python -m benchmarks.fidelity.report

fidelity-%: dev
	@$(BIN)/python -m benchmarks.fidelity.run --kind $* $(ARGS)
	@$(BIN)/python -m benchmarks.advice.agreement --kind $* --pairs 40
	@$(BIN)/python -m benchmarks.advice.agreement --kind $* --pairs 40 --seed 13 --out benchmarks/results/fidelity/fresh-pairs

demo-train: dev ## Train the embedded demo model from nothing (hours on two CPU cores)
	@$(BIN)/python -m demo.train $(ARGS)

##@ Housekeeping
.PHONY: constraints clean
constraints: ## Resolve all dependencies anew in a scratch environment and pin them in constraints.txt
	@rm -rf $(VENV)-resolve && $(PYTHON) -m venv $(VENV)-resolve
	@$(VENV)-resolve/bin/pip install --quiet --upgrade pip
	@$(VENV)-resolve/bin/pip install --quiet torch==2.13.0 -e '.[dev]'
	@$(VENV)-resolve/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt
	@rm -rf $(VENV)-resolve && echo "constraints.txt written; run make check before you commit it"

clean: ## Remove what make and the tools made (never a store)
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage* htmlcov

# --- how the environment is made ---------------------------------------------------------------------------
# uv is used where it is found and able: it does not read pip's configuration, so a machine whose pip is set up
# with its own index or wheel folder is served by pip.
define install
@command -v $(PYTHON) >/dev/null || { echo "no program $(PYTHON) was found; Headstart needs Python 3.11 or 3.12, run: make setup PYTHON=python3.11"; exit 1; }
@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else f"Headstart needs Python 3.11 or 3.12, found {v[0]}.{v[1]}; run: make setup PYTHON=python3.11")'
@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
@echo "setting up $(VENV) (some minutes the first time)"
@if command -v uv >/dev/null 2>&1 && ! $(BIN)/pip config list 2>/dev/null | grep -qE 'index|find-links'; \
  then uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '$(1)'; \
  else $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(1)'; fi
@rm -f $(VENV)/.run-* $(2) && touch $@
endef

dev: $(VENV)/.dev-$(DIGEST)

$(VENV)/.run-$(DIGEST):
	$(call install,.,$(VENV)/.dev-*)

$(VENV)/.dev-$(DIGEST):
	$(call install,.[dev],)
	@touch $(VENV)/.run-$(DIGEST)
