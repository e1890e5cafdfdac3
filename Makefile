# What a person types. Everything runs in .venv, made by the first target that needs it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check testbed testbed-down bench soak fuzz schema check-gpu clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.example ## the example's two services on this machine, no container engine: a picture in .demo/
	@$(BIN)/python scripts/demo.py

test: $(VENV)/.example .venv-reference/.stamp ## all checks and tests; the container scenarios too where an engine answers
	@$(MAKE) --no-print-directory check
	@$(BIN)/python scripts/run_tests.py

check: $(VENV)/.project ## format, lint, types, import contracts, the schema
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/basedpyright --level error
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m bento_cli.schema --check bentofile.schema.json

testbed: ## a container engine, registry and package index on a bare Debian machine (root)
	@bash tests/testbed/testbed.sh up

testbed-down: ## stop what `make testbed` started; images and caches stay
	@bash tests/testbed/testbed.sh down

bench: $(VENV)/.example .venv-reference/.stamp .venv-ray/.stamp ## how long things take, beside their goals (TABLES="commands serving calls memory images")
	@$(BIN)/python -m scripts.bench $(TABLES)

soak: $(VENV)/.project ## ten minutes of mixed load on a service whose workers are killed
	@BENTO_SOAK_S=600 $(BIN)/python -m pytest -q -s tests/runtime/process/test_soak.py

fuzz: $(VENV)/.project ## decoders, endpoints and archives against very many odd requests and files
	@BENTO_FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest -q tests/robustness/test_decoders.py
	@BENTO_FUZZ_EXAMPLES=500 $(BIN)/python -m pytest -q tests/robustness/test_openapi.py
	@BENTO_FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest -q tests/cli/store/test_archive.py

schema: $(VENV)/.project ## write bentofile.schema.json from the model
	@$(BIN)/python -m bento_cli.schema bentofile.schema.json

# With an interpreter that has torch for the GPU, and what the example needs: PYTHON=/path/to/python.
check-gpu: ## the example's GPU service on this machine's GPU, its picture compared with the CPU's
	@PYTHONPATH="$(CURDIR)/cli:$(CURDIR)/templates:$(CURDIR)/runtime" $(PYTHON) scripts/check_gpu.py

clean: ## remove what make made here
	rm -rf $(VENV) .venv-reference .venv-ray .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.project: pyproject.toml scripts/install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	@echo "making $(VENV) and installing the project"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(BIN)/python scripts/install.py project
	@touch $@

.venv-reference/.stamp: scripts/install.py $(VENV)/.example
	@echo "installing the existing implementation, which tests/compat compares with"
	@$(BIN)/python scripts/install.py reference
	@touch $@

# Where it cannot be had, the tables say so and go on without it.
.venv-ray/.stamp: scripts/install.py $(VENV)/.example
	@echo "installing Ray Serve, which calls between services are compared with"
	@$(BIN)/python scripts/install.py ray && touch $@ || { rm -rf $(@D); echo "Ray Serve is not to be had here"; }

$(VENV)/.example: $(VENV)/.project examples/controlnet/bentofile.yaml
	@echo "installing what the example needs (torch for CPUs, about 1 GB unpacked)"
	@$(BIN)/python scripts/install.py example
	@touch $@
