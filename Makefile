# Two commands need nothing but python3 (3.11 or newer) and make:
#   make demo   trains a small network by a schedule, beside its dense control
#   make test   runs the linters and the fast tests
# Both make their own virtual environment in .venv first. Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
IS_RECENT := import sys; sys.exit(sys.version_info < (3, 11))

# One thread a worker: the parallel test runs already use the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# Neighbours stay together, so that each worker imports and compiles less; who is done first takes from the other.
TWO := -n 2 --dist worksteal

.PHONY: demo test fuzz slow bench lint golden clean

demo: $(INSTALLED)
	$(BIN)/raptr demo

test: lint
	$(PYTEST) -q $(TWO) -m "not slow and not benchmark"

fuzz: $(INSTALLED)
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -q $(TWO) -m "not slow and not benchmark"

slow: $(INSTALLED)
	$(PYTEST) -q $(TWO) -m "slow and not benchmark" --timeout 1200

bench: $(INSTALLED)
	XLA_FLAGS= $(BIN)/python -m pytest -q -s -m benchmark --timeout 1200 tests/benchmarks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo

golden: $(INSTALLED)
	$(PYTEST) -q $(TWO) -m "not slow and not benchmark" --update-golden

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist

$(INSTALLED): pyproject.toml constraints.txt
	@$(BIN)/python -c 'import pip; $(IS_RECENT)' 2>/dev/null || { \
	  $(PYTHON) -c '$(IS_RECENT)' 2>/dev/null || { \
	    echo "raptr_dsl needs Python 3.11 or newer, which '$(PYTHON)' is not: name another, as in 'make test PYTHON=python3.12'" >&2; \
	    exit 1; }; \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	    echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu install the package python3-venv" >&2; \
	    exit 1; }; }
	@echo "installing into $(VENV): a few minutes the first time" >&2
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[torch,jax,train,dev]"
	@touch $@
