# Everything one does with this repository; `make` alone lists it. Needs only Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev
BENCH_READY := $(VENV)/.ready-bench
SETUP := pyproject.toml constraints.txt tests/tools/venv

.PHONY: help demo serve test check format screenshots bench bench-deployments venv constraints reference clean

help:  ## list what one can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## start a node and call it in every way, command by command
	@PATH="$(CURDIR)/$(BIN):$$PATH" tests/tools/demo

serve: $(READY)  ## start a node with the scripts of this folder; Ctrl-C stops it
	@$(BIN)/remoterun serve scripts

test: $(DEV_READY)  ## run all tests; make test ARGS='-k store -x' runs some
	@tests/tools/system-tools
	@$(BIN)/python -m pytest $(ARGS)

check: $(DEV_READY)  ## check style and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: $(DEV_READY)  ## put the code into the house's format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

screenshots: $(DEV_READY)  ## take the README's pictures of the page, into docs/screenshots
	@tests/tools/system-tools
	@$(BIN)/python tests/tools/screenshots.py

bench: $(BENCH_READY)  ## measure what calls cost, beside floors of the same run; make bench ONLY='http fork' measures some
	@tests/tools/system-tools
	@$(BIN)/python tests/benchmarks $(ONLY) $(ARGS)

bench-deployments: $(BENCH_READY)  ## measure the deployments side by side; with ARGS=--write into deploy/README.md
	@tests/tools/system-tools
	@$(BIN)/python tests/benchmarks/bench_deployments.py $(ARGS)

venv: $(DEV_READY)  ## make .venv with all that is needed to work on this

constraints: venv  ## write constraints.txt from what .venv holds
	@tests/tools/constraints $(VENV)

reference: $(DEV_READY)  ## write the tables of settings and metrics into README and docs
	@$(BIN)/python tests/tools/reference.py

clean:  ## remove .venv, caches and what was built; data in .remoterun stays
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(SETUP)
	@tests/tools/venv $(VENV) '.[all]'
	@touch $@

$(DEV_READY): $(SETUP)
	@tests/tools/venv $(VENV) '.[test,check]'
	@touch $(READY) $@

$(BENCH_READY): $(SETUP)
	@tests/tools/venv $(VENV) '.[test,check,bench]'
	@touch $(READY) $(DEV_READY) $@
