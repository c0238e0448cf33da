# One environment, two commands that matter: `make up` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install up test lint format bench soak openapi clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## Create the environment named by VENV (default .venv)

# torch comes first and alone: asked for by another package, pip would take the newest build with gigabytes of CUDA.
# Everything else is the lock, with --no-deps, so that nothing can bring torchvision (its only builds need CUDA).
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q torch==2.13.0 "setuptools>=77" wheel
	SAM2_BUILD_CUDA=0 $(PIP) install -q --no-deps --no-build-isolation --require-hashes -r requirements.lock
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

up: install ## Start everything on this machine, screen the samples, print the dashboard's address
	$(BIN)/assay up

test: install ## Run every suite at reduced counts, with real servers on free ports
	$(BIN)/python -m pytest

lint: install ## Format check, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## Run the benchmarks, print tables, keep JSON in bench-results/
	$(BIN)/assay bench all

soak: install ## Run fault, fuzz and scale suites at their full counts
	ASSAY_SOAK=1 $(BIN)/python -m pytest tests/faults tests/fuzz tests/integration

openapi: install ## Write api/openapi.json anew
	$(BIN)/assay openapi

clean: ## Remove the environment and what tests left
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
