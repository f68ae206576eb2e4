# Two commands are enough: `make demo` searches on handwritten digits, `make test` runs the tests.
# Both make the environment they need in .venv if it is missing or older than pyproject.toml or constraints.txt.
#
#   make demo PYTHON=python3.12          with another Python (3.11 or later)
#   make demo PIP_ARGS=...               with further arguments of pip, say another index for a CPU build of torch;
#                                        whoever has a GPU and wants another build installs it into .venv first
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
JOBS ?= 2
RUN_DIR ?= runs/demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
SOURCES := nas_kd search_spaces benchmarks tests

.DEFAULT_GOAL := help
.PHONY: help demo test check install clean

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

install: $(VENV)/.installed

clean:
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info

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
