# Everything that this project does, as one-word commands. `make` alone lists them.
#
# Needs make and a Python >= 3.10, nothing else: each target sets up what it needs, once, in a
# virtual environment inside this folder, and again only when pyproject.toml or requirements/ changed.
#
#   make test PYTHON=python3.12        another Python
#   make check SET=lowest              the lowest versions that we allow; SET=newest: the newest
#   make test SET=lowest-core ARGS=tests/core         the core's own, which the frameworks lift
#   make test ARGS="-k stream -x"      words for the tool behind the target

SET ?= dev
VENV ?= .venv$(if $(filter-out dev,$(SET)),-$(SET))
ENGINE ?= opentracy==0.4.1
ARGS ?=

# The first Python that is new enough and can make virtual environments.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 \
	&& echo "$$python" && break; done)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
READY := $(VENV)/.ready
# Ruff and the checkers of types stand in the set `dev` alone; from there they look at the versions of SET.
TOOLS := $(if $(filter-out dev,$(SET)),.venv,$(VENV))
CHECKERS := $(TOOLS)/.ready
DEMO := .venv-demo
COMPILE = .venv-uv/bin/uv pip compile pyproject.toml --upgrade --quiet --universal --python-version 3.10 \
	--no-emit-index-url --no-annotate --custom-compile-command 'make requirements'

# Ends with a sentence where there is no Python that is new enough.
define CHECK_PYTHON
test -n "$(PYTHON)" || { \
echo "This needs a Python >= 3.10 with venv (on Debian: python3-venv). None found; say where: make PYTHON=/path/to/python3" >&2; \
exit 1; }; \
"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
echo "This needs a Python >= 3.10; $(PYTHON) is $$("$(PYTHON)" -V 2>/dev/null || echo not there). Say where one is: make PYTHON=/path/to/python3" >&2; \
exit 1; }
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(DEMO)/.ready ## Accuracy against cost, six prompts routed, an answer streamed and billed, and what was saved.
	@PYTHONPATH='$(CURDIR)' $(DEMO)/bin/python examples/01_quickstart.py $(ARGS)

.PHONY: test
test: $(READY) engine ## Pass the tests.
	$(BIN)/python -m pytest --numprocesses=logical --dist=worksteal $(ARGS)

.PHONY: test-ecosystem
test-ecosystem: ## Pass the tests beside tracers, mocks and recorders, in an environment with all of them.
	$(MAKE) test-ecosystem-here SET=ecosystem

.PHONY: test-ecosystem-here
test-ecosystem-here: $(READY)
	$(BIN)/python -m pytest tests/ecosystem $(ARGS)

.PHONY: test-system
test-system: $(READY) ## Pass the tests of stored ledgers on PostgreSQL; install it if need be (Debian's package).
	$(BIN)/python scripts/postgres.py $(BIN)/python -m pytest tests/ledger -k postgresql $(ARGS)

.PHONY: test-browser
test-browser: ## Look at a report's page in a real browser; install Chromium if need be (Debian's package).
	$(MAKE) test-browser-here SET=browser

.PHONY: test-browser-here
test-browser-here: $(READY)
	$(BIN)/python scripts/chromium.py $(BIN)/python -m pytest tests/browser $(ARGS)

.PHONY: docs
docs: ## Build the site of docs/ into site/, and look for dead links and for anything that it loads from elsewhere.
	$(MAKE) docs-here SET=docs

.PHONY: docs-here
docs-here: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	$(BIN)/python scripts/site_check.py site
	@echo 'Open site/index.html, or with its search: python3 -m http.server --bind 127.0.0.1 --directory site'

.PHONY: docs-outputs
docs-outputs: $(READY) ## Run what docs/ shows, and write down what it prints today.
	$(BIN)/python scripts/docs_outputs.py $(ARGS)
	$(MAKE) docs-outputs-ecosystem SET=ecosystem

# The one how-to that needs FastAPI.
.PHONY: docs-outputs-ecosystem
docs-outputs-ecosystem: $(READY)
	$(BIN)/python scripts/docs_outputs.py howto/tenants

.PHONY: check
check: format-check lint types imports test ## All that a change must pass: format, lint, types, imports, tests.

.PHONY: format
format: $(CHECKERS) ## Format the code, and repair what the linter can repair.
	$(TOOLS)/bin/ruff check --fix-only .
	$(TOOLS)/bin/ruff format .

.PHONY: format-check
format-check: $(CHECKERS)
	$(TOOLS)/bin/ruff format --check .

.PHONY: lint
lint: $(CHECKERS) ## Lint: ruff, every rule but those that pyproject.toml gives a reason against; and the forms of .github.
	$(TOOLS)/bin/ruff check .
	$(TOOLS)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(TOOLS)/bin/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
	$(TOOLS)/bin/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

.PHONY: types
types: mypy pyright ## Check types: mypy strict on the packages; mypy and pyright on the samples of tests/typing; pyright on the README.

.PHONY: mypy
mypy: $(READY) $(CHECKERS)
	$(TOOLS)/bin/mypy --python-executable $(BIN)/python

.PHONY: pyright
pyright: $(READY) $(CHECKERS)
	$(TOOLS)/bin/pyright --pythonpath $(BIN)/python
	$(TOOLS)/bin/python scripts/readme_types.py $(BIN)/python

.PHONY: imports
imports: $(CHECKERS) ## Check that imports point down (the contracts in pyproject.toml).
	$(TOOLS)/bin/lint-imports

.PHONY: bench
bench: ## Measure us against httpx and the peers, side by side in one run.
	$(MAKE) bench-here SET=bench

.PHONY: bench-here
bench-here: $(READY)
	$(BIN)/python tests/benchmarks $(ARGS)

.PHONY: wheel
wheel: $(READY) ## Build the wheel and the source distribution into dist/.
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

.PHONY: proof
proof: $(READY) ## Install the wheel bare on every Python found here, and try each package in it.
	$(BIN)/python scripts/proof.py $(ARGS)

.PHONY: soak
soak: $(READY) engine ## Make 20,000 mixed calls, a fifth of them with a fault: is anything lost, doubled or leaked?
	$(BIN)/python scripts/soak.py $(ARGS)

.PHONY: tour
tour: $(READY) engine ## Write anew what examples/README.md shows of each example.
	$(BIN)/python scripts/tour.py

.PHONY: cassettes
cassettes: $(READY) engine ## Record tests/cassettes anew: from the hosted service with LUNAR_API_KEY, or ARGS=--sandbox.
	$(BIN)/python tests/cassettes/record.py $(ARGS)

.PHONY: engine
engine: $(READY) ## Add the vendor's routing engine, where it has a wheel for this machine.
	@$(BIN)/python -c 'import importlib.metadata as m; m.version("opentracy")' 2>/dev/null \
	|| $(PIP) install --no-deps --only-binary :all: '$(ENGINE)' \
	|| echo "No wheel of the routing engine ($(ENGINE)) for this machine: the sandbox decides by its table."

.PHONY: requirements
requirements: ## Compile requirements/*.txt anew from pyproject.toml.
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet uv
	$(COMPILE) --extra all --group dev --output-file requirements/dev.txt
	$(COMPILE) --extra langchain --extra report --extra sandbox --constraint requirements/dev.txt --output-file requirements/demo.txt
	$(COMPILE) --extra all --group bench --output-file requirements/bench.txt
	$(COMPILE) --extra all --group ecosystem --output-file requirements/ecosystem.txt
	$(COMPILE) --extra cli --group docs --output-file requirements/docs.txt
	$(COMPILE) --extra report --extra sql --group browser --output-file requirements/browser.txt
	$(COMPILE) --extra all --group test --resolution lowest-direct --output-file requirements/lowest.txt
	$(COMPILE) --extra cli --extra dask --extra otel --extra report --extra sandbox --extra sql --group core --resolution lowest-direct --output-file requirements/lowest-core.txt

.PHONY: clean
clean: ## Remove all that the other targets left behind.
	rm -rf .venv* build dist site htmlcov .benchmarks .coverage examples/01_report.html
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . \( -name __pycache__ -o -name "*.egg-info" \) -type d -prune -exec rm -rf {} +

# Its own, and small: what the demo shows needs neither LlamaIndex nor a test.
$(DEMO)/.ready: requirements/demo.txt scripts/demo_environment.py
	@$(CHECK_PYTHON)
	@"$(PYTHON)" scripts/demo_environment.py $(DEMO) '$(ENGINE)'
	@touch $@

$(READY): pyproject.toml $(filter-out requirements/newest.txt,requirements/$(SET).txt)
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv --clear $(VENV)
ifeq ($(SET),newest)
	$(PIP) install --upgrade pip
	$(PIP) install --editable '.[all]' --group test
else
	$(PIP) install --requirement requirements/$(SET).txt
	$(PIP) install --no-deps --editable .
endif
	@touch $@

ifneq ($(TOOLS),$(VENV))
$(CHECKERS): pyproject.toml requirements/dev.txt
	@$(MAKE) $@ SET=dev VENV=$(TOOLS)
endif
