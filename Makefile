# `make demo` and `make test` install what they need first. Everything lies in .venv and build/.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/installed
SYSTEM := .venv/system
KERNELS := .venv/kernels
export OMP_NUM_THREADS ?= 1
export FLWR_TELEMETRY_ENABLED ?= 0
export MPLBACKEND ?= Agg
# Tests run on so many processes; 0 is one after another, in this one.
PYTEST_WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile

.PHONY: help install demo demo-serve demo-real up study down browser quick test test-containers test-nightly bench bench-utility docs lint format lock clean

help:  ## Show these targets.
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED) $(KERNELS)  ## Install the locked packages into .venv.

$(INSTALLED): lock/dev.lock pyproject.toml $(SYSTEM)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r lock/dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Kernels of the training engine are compiled here, and never where private rows are; and what jobs import, which they
# could not write down.
$(KERNELS): $(INSTALLED) $(wildcard datasites/engine/lanes/*.py datasites/engine/lanes/kernels/*.py)
	$(BIN)/python -m datasites.engine.lanes
	$(BIN)/python -m compileall -q policies datasites researcher
	@touch $@

# The call filter of jobs needs Debian's libseccomp2; most machines have it.
$(SYSTEM):
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@ldconfig -p | grep -q libseccomp.so.2 || { apt-get update -qq && apt-get install -y -qq libseccomp2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@touch $@

demo: install  ## Three hospitals train one model; report in build/demo/report.html.
	$(BIN)/python -m compose.demo

demo-serve: install  ## Open the consoles of the demonstration's hospitals, with its state in them.
	$(BIN)/python -m compose.serve build/demo

demo-real: install  ## The same network on real patients: the breast cancer table of scikit-learn.
	$(BIN)/python -m compose.demo --real

up:  ## Start the network in containers: three hospitals, gateway, notebook. Needs Docker with Compose.
	python3 compose/containers.py up

study:  ## Run the study on the network in containers.
	python3 compose/containers.py study

down:  ## Stop the network in containers; what the hospitals keep stays.
	python3 compose/containers.py down

# The console's tests drive Debian's Chromium; `CHROMIUM=/path` names another.
browser:
	@command -v $${CHROMIUM:-chromium} >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

quick: install  ## The tests that need no server, browser or program, in about a minute.
	$(PYTEST) -q -m quick tests/policies tests/datasites tests/researcher tests/browser tests/compose

test: install lint browser  ## All tests but the nightly ones.
	$(PYTEST) -m "not nightly and not containers"

test-containers: install  ## Tests of the network in containers; needs a Docker engine.
	$(BIN)/python -m pytest -m containers -rA tests/containers

test-nightly: install  ## The long crash and property tests.
	$(BIN)/python -m pytest -m nightly

bench: install  ## Measure: training speed, overhead of a round, ledger admission, memory, a start.
	$(BIN)/python -m tests.benchmarks

bench-utility: install  ## Measure how near private models come to one without privacy, on several populations.
	$(BIN)/pip install --quiet --no-deps --require-hashes -r lock/bench.lock
	$(BIN)/python -m tests.benchmarks utility

docs: install  ## Write the generated parts of docs/ anew from the code.
	$(BIN)/python -m docs.generator

lint: install  ## Ruff, mypy, and the arrows between rooms.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Let ruff format and mend.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: install  ## Resolve the lock files anew from pyproject.toml, with hashes, bills of materials and licences.
	$(BIN)/python lock/write.py

clean:  ## Remove what was built, not .venv.
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
