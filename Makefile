# `make` lists the targets. Everything runs out of .venv, which is set up once.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Arguments for pytest, for instance: make test TESTS="tests/store -k claim"
TESTS ?=

# Processes that run tests at once. Most tests wait more than they compute.
WORKERS ?= 2

.PHONY: help demo test test-long soak check bench format stubs map clean

help: ## list the targets
	@echo "Targets (PYTHON=... chooses the interpreter of .venv, now: $(PYTHON)):"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("%s is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.12" % ((sys.executable,) + sys.version_info[:2]) if sys.version_info < (3, 11) else 0)'
	@# Some distributions leave ensurepip out of python3; then the pip outside fills the environment.
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		$(PYTHON) -m venv .venv; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; \
	else \
		echo "$(PYTHON) has neither ensurepip nor pip: install python3-venv or python3-pip, then try again"; exit 1; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY) ## start a cluster, price a book of options on it, show the report, stop
	$(BIN)/python -m examples.portfolio.demo

test: $(READY) ## the whole test suite (TESTS="..." for a part of it)
	$(BIN)/python -m pytest -n $(WORKERS) -m "not long" $(TESTS)

test-long: $(READY) ## the tests that take minutes
	$(BIN)/python -m pytest -n $(WORKERS) -m long --timeout 600 -o faulthandler_timeout=3900 $(TESTS)

soak: $(READY) ## 20 minutes of mixed load while each fault happens in turn (SOAK="--minutes 5 --only killed")
	PYTHONPATH=tests:. $(BIN)/python -m soak $(SOAK)

check: $(READY) ## format, lint, types, layers, generated code and map, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_stubs.py --check
	$(BIN)/python tools/draw_map.py --check
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/unit

format: $(READY) ## write the code in the one format, mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## our figures and the peers', in turn: about half an hour (BENCH="--quick" for a tenth)
	$(BIN)/python -m benchmarks $(BENCH)

stubs: $(READY) ## compile the .proto files into the committed stubs
	$(BIN)/python tools/generate_stubs.py

map: $(READY) ## draw docs/map.md, the rooms of the packages, from the imports
	$(BIN)/python tools/draw_map.py

clean: ## remove what was built, .venv too; data of clusters stays
	rm -rf .venv benchmarks/.venv-peers dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
