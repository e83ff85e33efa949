# Needs Python >= 3.11 and make; everything else comes from the hash locks into .venv.
PYTHON ?= python3
BIN := .venv/bin
UV_INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode
export OMP_NUM_THREADS ?= 1

.PHONY: help install install-dev quickstart test soak lint docs notebooks bench golden correctness lock clean

help:
	@echo "make install     virtual environment from requirements.lock"
	@echo "make quickstart  install, run the quickstart study, print the path of its report"
	@echo "make test        all tests (2 cores: under 15 minutes)"
	@echo "make lint        ruff and mypy"
	@echo "make docs        the documentation as a site in site/, which needs no network"
	@echo "make notebooks   run the notebooks in docs/notebooks again"
	@echo "make soak        200 tiny trials while their processes are killed at random, about 20 minutes"
	@echo "make bench       speed measurements, about an hour; writes docs/results/performance.md"
	@echo "make golden      record the first losses of every method again"
	@echo "make correctness run the proofs and write docs/correctness.md"
	@echo "make lock        renew the locks after a change of pyproject.toml"

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

.venv/.installed: .venv/bin/uv requirements.lock pyproject.toml
	$(UV_INSTALL) --require-hashes -r requirements.lock
	$(UV_INSTALL) --no-deps --editable .
	@touch $@

# lightly is an oracle of tests/parity only; without its dependencies (Lightning, Hydra), which its losses do not need.
.venv/.installed-dev: .venv/.installed .venv/.installed-docs requirements-dev.lock requirements-oracle.lock
	$(UV_INSTALL) --require-hashes -r requirements-dev.lock
	$(UV_INSTALL) --require-hashes --no-deps -r requirements-oracle.lock
	@touch $@

# The reference is written from the code, so that the site is built where the code is installed.
.venv/.installed-docs: .venv/.installed requirements-docs.lock
	$(UV_INSTALL) --require-hashes -r requirements-docs.lock
	@touch $@

install: .venv/.installed

install-dev: .venv/.installed-dev

quickstart: install
	$(BIN)/ablation run quickstart

test: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

soak: install-dev
	$(BIN)/python -m tests.soak

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# Material's note about MkDocs 2 is not about this lock.
docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html"

notebooks: .venv/.installed-docs
	$(BIN)/jupyter execute --inplace docs/notebooks/*.ipynb

bench: install
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.data_path
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.orchestration
	$(BIN)/python -m benchmarks.performance

golden: install-dev
	$(BIN)/python -m tests.golden.first_steps

correctness: install-dev
	$(BIN)/python -m benchmarks.correctness

lock: .venv/bin/uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --group server -o requirements-server.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --group image -o requirements-image.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --group docs -c requirements-dev.lock -o requirements-docs.lock
	echo 'lightly==1.6.*' | $(BIN)/uv pip compile --quiet --universal --no-deps --generate-hashes --no-emit-index-url --no-header - -o requirements-oracle.lock

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
