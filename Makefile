# `make demo` searches on handwritten digits, `make test` runs the tests, `make docs` builds the documentation in site/.
# Each makes the environment it needs in .venv if it is missing or older than pyproject.toml or constraints.txt.
#
#   make demo PYTHON=python3.12          with another Python (3.11 or later)
#   make demo PIP_ARGS=...               with further arguments of pip, say another index for a CPU build of torch;
#                                        to use another build, install it into .venv first
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
JOBS ?= 2
RUN_DIR ?= runs/demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
SOURCES := nas_kd search_spaces benchmarks examples tests docs/hooks

.DEFAULT_GOAL := help
.PHONY: help demo test check docs install clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -8

demo: $(VENV)/.installed
	@$(BIN)/nas-kd search --run-dir $(RUN_DIR)

test: $(VENV)/.installed-check
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup

check: $(VENV)/.installed-check
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { echo 'to format: $(BIN)/ruff format $(SOURCES)'; exit 1; }
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup

docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/python -m mkdocs build --strict

install: $(VENV)/.installed

clean:
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build site *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'nas-kd needs Python 3.11 or later: make PYTHON=/path/to/python3'; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV) (minutes the first time)'
	@$(PIP) install $(PIP_ARGS) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-check: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV) (minutes the first time)'
	@$(PIP) install $(PIP_ARGS) -c constraints.txt -e '.[check]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV) (minutes the first time)'
	@$(PIP) install $(PIP_ARGS) -c constraints.txt -e '.[docs]'
	@touch $@ $(VENV)/.installed
