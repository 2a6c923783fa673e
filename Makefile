# What CI runs is what a person runs.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON := $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(shell \
  $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $(p))))
BIN := .venv/bin
# What of the end-to-end tests to run, as pytest takes it; all unless given.
E2E :=
# What to measure, as `python -m benchmarks` takes it; all unless given.
BENCH :=
# Which of the lab's twins to bring up: lab-metal, lab-vm, or both where it is empty.
STACK := lab-metal
SCRIPTS := components/groundplane/remote/scripts

.PHONY: help
help:  ## This list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: lab
lab: .venv  ## Bring up a bare-metal stack on machines made on this computer (as root)
	@$(BIN)/python -m lab up $(if $(STACK),--stack $(STACK))

.PHONY: lab-down
lab-down: .venv  ## Take the lab away, leaving nothing behind
	@$(BIN)/python -m lab down

.PHONY: check
check: .venv  ## Style, types, imports and shell scripts
	@command -v shellcheck >/dev/null || lab/install-packages shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	shellcheck -x $(SCRIPTS)/lib.sh $(SCRIPTS)/lib/*.sh $(SCRIPTS)/distributions/*.sh $(SCRIPTS)/steps/*.sh
	shellcheck components/groundplane/addons/*.sh
	shellcheck -x $$(grep -rlE '^#!.*(ba)?sh' $(SCRIPTS) lab benchmarks .ci --include='*' --exclude='*.py')

.PHONY: test
test: .venv policies/.venv  ## Everything that needs no machines
	@command -v nft >/dev/null || lab/install-packages nftables
	$(BIN)/pytest -q -n auto -m "not lab and not e2e and not engine"

.PHONY: parts
parts: .venv  ## Make what the lab needs where it is missing (as root, 20 minutes once)
	@$(BIN)/python -m lab parts

.PHONY: parts-all
parts-all: .venv
	@$(BIN)/python -m lab parts --all

# Not within a test, whose time is limited.
.PHONY: e2e
e2e: parts  ## The real engine on the lab's machines (as root, half an hour)
	$(BIN)/pytest -q -m "(lab or e2e) and not long" $(E2E)

.PHONY: e2e-all
e2e-all: parts-all policies/.venv  ## The same, with upgrades, five control planes and restores (two hours)
	$(BIN)/pytest -q -m "lab or e2e"

# Needs no machines, but the engine, which is one of the parts.
.PHONY: policies
policies: parts policies/.venv  ## Each rule of the policy pack on the real engine (a minute)
	$(BIN)/pytest -q tests/engine/test_policies.py

.PHONY: conformance
conformance: .venv policies/.venv  ## The lab's engine: stand-ins, and official plugins where there are any
	$(BIN)/pytest -q tests/engine

.PHONY: docs
docs: .venv  ## The documentation as a site in build/site; a broken link ends it
	@$(BIN)/python docs/site.py build/pages
	$(BIN)/zensical build --strict

.PHONY: dist
dist: .venv  ## A release in dist/: wheel, source and bill of materials
	@rm -rf dist && mkdir dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python release/sbom.py dist

.PHONY: bench
bench: .venv  ## Measure it, and write docs/performance.md (as root, two hours)
	$(BIN)/python -m benchmarks $(BENCH)

.PHONY: lock
lock:  ## Pin the newest versions that pyproject.toml allows
	$(PYTHON) -m venv .lab/pip-tools && .lab/pip-tools/bin/pip -q install pip-tools
	.lab/pip-tools/bin/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --extra dev -o requirements.lock pyproject.toml requirements.in
	.lab/pip-tools/bin/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  -o policies/requirements.txt policies/requirements.in

# Made anew in one go: a half-made one carries no stamp.
.venv: .venv/stamp
.venv/stamp: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing: apt-get install python3 python3-venv; on Ubuntu 22.04, from universe: apt-get install python3.11 python3.11-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  lab/install-packages $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip --quiet --disable-pip-version-check install --require-hashes -r requirements.lock
	@$(BIN)/pip --quiet --disable-pip-version-check install --no-deps --no-build-isolation -e .
	@touch $@

# The policy pack's own: its SDK and the project want different versions of protobuf.
policies/.venv: policies/.venv/stamp
policies/.venv/stamp: policies/requirements.txt | .venv
	@echo "making policies/.venv"
	@.venv/bin/python -m venv --clear policies/.venv
	@policies/.venv/bin/pip --quiet --disable-pip-version-check install --require-hashes -r $<
	@touch $@
