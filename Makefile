# `make` explains itself. Targets that need an environment first bring .venv up to date.

# Else each of the many processes of the tests would compile the modules that it imports.
export PYTHONDONTWRITEBYTECODE =

PYTHON ?= $(shell ls $(VENV)/.ready-* >/dev/null 2>&1 && $(RUN) -c "" 2>/dev/null && echo $(RUN) || echo python3)
ACCEL ?= $(shell $(DETECT_ACCEL))
VENV = .venv
ARGS =
RUN = $(VENV)/bin/python
# In their order the longest files do not come last.
SIDE_BY_SIDE = --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
# Bytecode is compiled at the first import: of all files it takes as long as the rest of the installation.
PIP_INSTALL = $(RUN) -m pip install -qq --no-compile --disable-pip-version-check
COMPILE = $(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup sweep test test-robustness test-all check check-accelerators format bench docs lock clean

# JAX for CUDA 13 needs driver 580 and compute capability 7.5, JAX for CUDA 12 driver 525; the weakest GPU decides.
DETECT_ACCEL = \
  gpus=$$(nvidia-smi --query-gpu=driver_version,compute_cap --format=csv,noheader 2>/dev/null) || gpus=; \
  echo "$$gpus" | awk -F ', *' '\
    $$1 + 0 >= 580 && (NF < 2 || $$2 + 0 >= 7.5) { cuda13 = 1; next } \
    $$1 + 0 >= 525 { cuda12 = 1 } \
    END { print cuda12 ? "cuda12" : cuda13 ? "cuda13" : "cpu" }'

# Which environment is wanted is part of its stamps' names: accelerator, interpreter, folder and lock. Another
# choice is another name, so .venv is made anew; a stamp is written last, so half an environment has none.
ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
  PYTHON := $(PYTHON)
  ACCEL := $(ACCEL)
  LOCK := requirements/$(ACCEL).lock
  LOCKS := $(filter-out requirements/docs.lock requirements/accelerators.lock,$(wildcard requirements/*.lock))
  ifeq ($(filter $(LOCK),$(LOCKS)),)
    $(error ACCEL=$(ACCEL) is unknown; choose one of: $(basename $(notdir $(LOCKS))))
  endif
  FOUND := $(shell $(PYTHON) -c 'import sys; v = sys.version_info; print("%d.%d.%d %s" % (v[:3] + (v >= (3, 11),)))' 2>/dev/null)
  ifeq ($(FOUND),)
    $(error No Python runs as "$(PYTHON)"; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3)
  else ifneq ($(lastword $(FOUND)),True)
    $(error "$(PYTHON)" is Python $(firstword $(FOUND)), but 3.11 or newer is needed; name one: make PYTHON=/path/to/python3)
  endif
  KEY := $(ACCEL)-$(shell $(PYTHON) -c 'import os, sys, zlib; print("%08x" % zlib.crc32(repr(( \
    sys.version_info[:2], sys.abiflags, os.path.realpath(sys.base_prefix), os.getcwd(), \
    open(sys.argv[1]).read())).encode()))' $(LOCK))
  LOCKED := $(VENV)/.locked-$(KEY)
  READY := $(VENV)/.ready-$(KEY)
  ifneq ($(shell $(RUN) -c 'print("runs")' 2>/dev/null),runs)
    .PHONY: $(LOCKED)  # whatever its stamps say
  endif
endif

help: ## Show this text
	@echo "Usage: make TARGET [VARIABLE=value ...]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  ACCEL     what JAX runs on: cpu, cuda13, cuda12 or tpu (default: the NVIDIA GPU if there is one, else cpu)"
	@echo "  PYTHON    the interpreter, 3.11 or newer, for .venv (default: the one .venv was made with, else python3)"
	@echo "  ARGS      passed on: make sweep ARGS=\"--d 10 20 --seeds 500\", make test ARGS=\"-k prox\""
	@echo "  VENV      where the environment lives; what is there is replaced (default: .venv)"

setup: $(READY) ## Make or refresh .venv; the others do this by themselves
	@:

sweep: setup ## Run the one-layer study and show its tables beside the paper's
	@$(RUN) -m experiments sweep $(ARGS)

test: setup ## Run the default tests
	@$(RUN) -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-robustness: setup ## Run studies and examples to their end; tests that kill processes, join several and drive a browser
	@$(RUN) -m pytest -m robustness $(SIDE_BY_SIDE) $(ARGS)

test-all: setup ## Run every test, the slow ones and those for a GPU too
	@$(RUN) -m pytest -m "" $(SIDE_BY_SIDE) $(ARGS)

check: setup ## Lint, check the format, the layers of imports, the types
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(VENV)/bin/lint-imports --no-logo --no-cache
	@$(RUN) -m mypy

format: setup ## Format, and mend what the linter can
	@$(RUN) -m ruff check --fix-only
	@$(RUN) -m ruff format

bench: setup ## Measure speed against the peers
	@$(RUN) -m benchmarks.run $(ARGS)

check-accelerators: setup ## Compile for an H100 and a TPU without having one (half an hour)
	@$(RUN) -m tools.check_accelerators $(ARGS)

docs: $(VENV)/.docs ## Build the documentation into build/docs; a warning or a broken link is an error
	@$(RUN) -m sphinx --quiet --fail-on-warning --conf-dir docs --doctree-dir build/doctrees $(ARGS) . build/docs
	@echo "build/docs/index.html"

lock: setup ## Pin the dependencies again after a change of pyproject.toml (ARGS=--upgrade: the newest of all)
	@for accel in cpu cuda13 cuda12 tpu; do \
	  echo "Locking requirements/$$accel.lock"; \
	  $(COMPILE) --extra experiments --extra dev $$(test $$accel = cpu || echo --extra $$accel) \
	    pyproject.toml --output-file requirements/$$accel.lock || exit; \
	done
	@echo "Locking requirements/accelerators.lock"
	@$(COMPILE) --extra accelerators --constraint requirements/tpu.lock pyproject.toml \
	  --output-file requirements/accelerators.lock
	@echo "Locking requirements/docs.lock"
	@$(RUN) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"] \
	    ["optional-dependencies"]["docs"], sep="\n")' | \
	  $(COMPILE) --constraint requirements/cpu.lock - --output-file requirements/docs.lock

clean: ## Remove .venv, caches and build products; records of runs stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(LOCKED):
	@echo "Making $(VENV): Python $(firstword $(FOUND)), JAX for $(ACCEL); the first time takes minutes"
	@rm -f $(VENV)/.ready-* $(VENV)/.locked-*
	@base=$$($(PYTHON) -c 'import sys; print(sys._base_executable)') && "$$base" -m venv --clear $(VENV)
	@$(PIP_INSTALL) --no-deps --only-binary :all: --require-hashes -r $(LOCK)
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@echo "Installing rvsmjax from this folder into $(VENV)"
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# What the documentation needs beside it, at versions that agree with the other locks.
$(VENV)/.docs: $(READY) requirements/docs.lock
	@echo "Installing Sphinx into $(VENV)"
	@$(PIP_INSTALL) --no-deps --only-binary :all: --require-hashes -r requirements/docs.lock
	@touch $@
