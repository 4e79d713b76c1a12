# Two commands do it all, on a machine with Python 3.11+ and make: `make demo` and `make test`.
# They set up a virtual environment first (.venv; once), and need no network after that.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# What the caller has exported must not choose other options, plugins, modules or settings.
CALLERS := PYTHON PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS MYPYPATH \
           VIRTUAL_ENV MAKEFLAGS MFLAGS
$(foreach name,$(CALLERS) $(filter PYTEST_% FARM_% HYPOTHESIS_%,$(.VARIABLES)),\
  $(eval unexport $(name)))

# Without PYTHON=…, the first interpreter from 3.11 on. Those that are found may be mere shims, so
# each is asked.
SUITABLE := import sys; sys.exit(sys.version_info < (3, 11))
ifdef PYTHON
  BASE := $(PYTHON)
  VERSION := $(shell $(BASE) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
  VENV := .venv-$(VERSION)
else
  BASE := $(shell for name in python3 python python3.13 python3.12 python3.11 python3.14; do \
            $$name -c '$(SUITABLE)' 2>/dev/null && { echo $$name; break; }; done)
  VENV := .venv
endif
BIN := $(abspath $(VENV))/bin

# The packages are installed once, and again when what pyproject.toml says of them has changed.
PACKAGING := import tomllib, zlib; it = tomllib.load(open("pyproject.toml", "rb")); \
             print(zlib.crc32(repr([it["build-system"], it["project"]]).encode()))
STAMP = $(VENV)/.snapfarm-$(shell $(BASE) -c '$(PACKAGING)' 2>/dev/null)

# Half as many more workers than processors: many tests wait for processes that they have started.
WORKERS := import os; print(max(2, len(os.sched_getaffinity(0)) * 3 // 2))

SOURCES := coordinator worker tests demo

.PHONY: help demo test lint unit tests chaos plain browser bench samples flakes real clean setup

help:  ## list the targets
	@echo "make TARGET [PYTHON=/path/to/python]"
	@sed -n 's/^\([a-z]*\):.*##/\1/p' $(firstword $(MAKEFILE_LIST)) | \
	  while read -r target meaning; do printf '  %-8s %s\n' "$$target" "$$meaning"; done

demo: setup  ## run the demo suite on a farm, then without one, and show its golden database
	@PATH="$(BIN):$$PATH" bash demo/run.sh

test: lint tests  ## format, lint, types, import contract, then tests and documentation examples

lint: setup  ## format, lint, types and import contract
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	cd demo && MYPYPATH=. $(BIN)/mypy --config-file ../pyproject.toml .
	$(BIN)/lint-imports

unit: setup  ## the unit tests: seconds
	$(BIN)/python -m pytest tests/unit

tests: setup  ## unit, contract and integration tests, and documentation examples, on a farm
	$(BIN)/farm run -n $$($(BIN)/python -c '$(WORKERS)')

chaos: setup  ## tests that kill, stop and starve processes, on a farm: a minute
	$(BIN)/farm run -n $$($(BIN)/python -c '$(WORKERS)') tests/chaos

plain: setup  ## unit and contract tests on one process, so that not only the farm judges the farm
	$(BIN)/python -m pytest tests/unit tests/contract

# Root on a machine with apt gets what is missing; anybody else is told, and the tests are skipped.
browser: setup  ## the page of a report in headless Chromium
	@{ command -v chromium && command -v npm; } >/dev/null 2>&1 || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  { apt-get update -qq; apt-get install -y -qq --no-install-recommends chromium npm; } >/dev/null; } || \
	  echo "make: Chromium or npm is missing: apt-get install chromium npm" >&2
	$(BIN)/python -m pytest tests/browser

# Peers that nothing else needs are installed here, once; what is missing is told in the tables.
bench: setup  ## benchmarks side by side with their peers: minutes
	@test -e $(STAMP)-bench || \
	  { $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]' && \
	    touch $(STAMP)-bench; } || \
	  echo "make: not all peers can be installed; the benchmarks do without them" >&2
	PYTHONPATH=tests $(BIN)/python -m benchmarks

samples: setup  ## sample projects: plain, xdist, all modes of the farm, shuffled; Django: minutes
	$(BIN)/farm run -n 2 tests/samples/test_*.py

flakes: setup  ## find, judge and blame the flakes of a corpus of small suites: minutes
	PYTHONPATH=tests $(BIN)/python -m flakes

real: setup  ## suites that nobody here wrote; downloads them; ONLY='-k "not beside"' is half of it
	$(BIN)/farm run -n 2 tests/real $(ONLY)

clean:  ## remove virtual environments, caches and results
	rm -rf .venv .venv-* .farm demo/.farm .hypothesis .mypy_cache demo/.mypy_cache .ruff_cache \
	  .pytest_cache demo/.pytest_cache .import_linter_cache bench-results build dist
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# The venv is made again where its interpreter is gone, and filled again where the stamp is.
setup:
	@set -e; \
	fail() { echo "make: $$*" >&2; exit 1; }; \
	test -n "$(BASE)" || \
	  fail "found no Python from 3.11 on: name one, as in make test PYTHON=/path/to/python3.12"; \
	$(BASE) -c '$(SUITABLE)' || fail "$(BASE) is no Python from 3.11 on"; \
	$(BIN)/python -c '$(SUITABLE)' 2>/dev/null || rm -rf $(VENV); \
	test ! -e $(STAMP) || exit 0; \
	echo "setting up $(VENV) with $$($(BASE) --version); this needs a package index, once"; \
	test -e $(VENV) || $(BASE) -m venv $(VENV) || { rm -rf $(VENV); fail \
	  "$(BASE) can't make a virtual environment: on Debian and Ubuntu, install python3-venv"; }; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	rm -f $(VENV)/.snapfarm-*; \
	touch $(STAMP)
