# make quickstart   all of RWML on a small real world, on two CPU cores; ends with a report (recipes/quickstart.toml)
# make check        linter, type checker and the quick tests: under 90 s
# make test         linter, type checker and all tests, the official ALFWorld engine included
# make lint, make clean
PYTHON ?= python3
VENV ?= .venv
# EDITABLE= (empty) installs the built package instead of the working tree, as .ci/run does.
EDITABLE ?= -e
ARGS ?=

BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
# Waiting threads that spin take the cores from the ones that work.
export OMP_WAIT_POLICY = passive

.PHONY: quickstart check quick test lint clean

# One thread: matrices this small gain little from two, and lose much when another process holds the second core.
quickstart: export OMP_NUM_THREADS ?= 1
quickstart: $(VENV)/.installed
	@$(BIN)/rwml run recipes/quickstart.toml $(ARGS)

check: $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory -j2 lint quick

quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test: lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "rwml needs Python 3.11 or later, and '$(PYTHON)' is older: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: the resolver could otherwise take another build or version of it than the one that was tested.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing rwml into $(VENV) ..."
	@$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	@$(INSTALL) -c constraints.txt $(EDITABLE) .
	@touch $@

# The official engine compiles two source packages; that takes some minutes the first time.
$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.installed
	@echo "installing the developer tools and the official ALFWorld engine ..."
	@$(INSTALL) -c constraints.txt $(EDITABLE) '.[dev,alfworld]'
	@touch $@
