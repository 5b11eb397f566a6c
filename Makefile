# `make` lists the targets. Everything runs out of .venv, which is set up once.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Arguments for pytest, for instance: make test TESTS="tests/store -k claim"
TESTS ?=

# Processes that run tests at once. Most tests wait more than they compute.
WORKERS ?= 2

# Packages of the worker and the client in JavaScript. Without Node.js their tests are left out, which `make test` says.
NODE_READY := examples/node/node_modules/.ready

.PHONY: help demo test test-long soak check docs node bench format stubs map clean

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
	@$(MAKE) -s --no-print-directory node || echo "so the tests of the examples in JavaScript are left out"
	$(BIN)/python -m pytest -n $(WORKERS) -m "not long" $$(test -e $(NODE_READY) || echo --ignore=tests/examples/test_node.py) $(TESTS)

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
	$(BIN)/python tools/draw_lives.py --check
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/unit

format: $(READY) ## write the code in the one format, mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## build the site out of docs/ into build/site; any warning, a broken link too, fails it
	$(BIN)/sphinx-build --builder html --fresh-env --fail-on-warning --keep-going --quiet -c tools/site docs build/site
	@echo "built: build/site/index.html"

node: $(NODE_READY) ## install the packages of the examples in JavaScript

# Exactly what package-lock.json names; no package runs a script of its own.
$(NODE_READY): examples/node/package.json examples/node/package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && npm --version >/dev/null 2>&1 || \
		{ echo "the examples in JavaScript need Node.js 20 or newer, with npm"; exit 1; }
	cd examples/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

bench: $(READY) ## our figures and the peers', in turn: about half an hour (BENCH="--quick" for a tenth)
	$(BIN)/python -m benchmarks $(BENCH)

stubs: $(READY) ## compile the .proto files into the committed stubs
	$(BIN)/python tools/generate_stubs.py

map: $(READY) ## draw docs/map.md from the imports, docs/drawings from the tables of transitions
	$(BIN)/python tools/draw_map.py
	$(BIN)/python tools/draw_lives.py

clean: ## remove what was built, .venv too; data of clusters stays
	rm -rf .venv benchmarks/.venv-peers examples/node/node_modules dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
