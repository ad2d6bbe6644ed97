# Everything a fresh machine needs is Python 3.11 or later and make; `make compile` wants a C compiler,
# and LIA, OLIA and BALIA on the kernel want clang where mptcplab is built (libbpf where it runs).
#
#   make run     installs into .venv and runs experiment A: on this kernel, or in simulated time
#   make test    installs the developers' tools too and runs the checks and tests that CI runs
#   make compile compiles our stack and the simulator: the same results, many times faster
#   make bpf     compiles the kernel's congestion controls again, after a change
#   make docs    builds the documentation into build/docs
#   make man     writes the man page and the shells' completion scripts anew, from the program
#   make test-kernels boots Debian's kernels in QEMU and tests drivers there that this machine's may lack
#   make wheel   builds the source distribution and, from it, the wheel, and tries that elsewhere
#
# Another Python, beside the first: make test PYTHON=python3.13 VENV=.venv-3.13
# `make lock` refreshes the two lock files; the other targets are the single steps.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# errors are shown, and nothing else: a wall of warnings hides them
PIP := PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip --disable-pip-version-check -qq
DURATION ?= 20s
# twice the processors: the tests on the kernel mostly wait, for seconds that have to pass
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(2 * len(os.sched_getaffinity(0)))')
# of the tests, those that are run against the wheel: what is compiled, and what simulates
WHEEL_TESTS ?= tests/unit/stack tests/simulated/test_builds.py

# versions of Debian's kernels that test-kernels boots (6.1, 6.12, 6.18, newest)
KERNELS ?= 6.12

.PHONY: run test test-kernels compile bpf docs wheel dist try-wheel install dev lint types imports unit format lock clean man

run: install
	$(BIN)/mptcplab run A --on auto --trial --duration $(DURATION)

test: lint types imports unit

test-kernels: dev
	$(BIN)/python -m tests.kernels $(KERNELS)

compile: dev
	MPTCPLAB_COMPILE=1 $(BIN)/python setup.py --quiet build_ext --inplace --force

bpf: install
	$(BIN)/python -c 'import setup; from pathlib import Path; setup.compile_bpf(Path("src"), must=True)'

wheel: dist try-wheel

dist: dev
	rm -rf build dist
	$(BIN)/python setup.py --quiet sdist
	$(PIP) wheel --no-deps --wheel-dir dist dist/mptcplab-*.tar.gz

try-wheel: dev
	$(BIN)/python .ci/try_wheel.py dist/mptcplab-*.whl $(WHEEL_TESTS)

install: $(VENV)/.installed
dev: $(VENV)/.dev

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "mptcplab needs Python 3.11 or later; name one with: make PYTHON=python3.12"; exit 1; }
	@echo "Making $(VENV), a virtual environment of its own."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created requirements.lock pyproject.toml setup.py
	@echo "Installing mptcplab and what it needs into $(VENV) (about a minute)."
	@$(PIP) install --require-hashes -r requirements.lock
	@MPTCPLAB_COMPILE=0 $(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -qq src
	@touch $@

$(VENV)/.dev: $(VENV)/.installed requirements-dev.lock
	@echo "Installing the developers' tools into $(VENV) (about a minute)."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev
	$(BIN)/mypy

imports: dev
	$(BIN)/lint-imports

unit: dev
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not documented and not compiled"

man: dev
	$(BIN)/python docs/shell.py

docs: dev
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/shell.py --check
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "Built build/docs/index.html"

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-find-links --extra build -o requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-find-links --all-extras -o requirements-dev.lock pyproject.toml

clean:
	find src -name '*.so' -delete
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache/kernels
