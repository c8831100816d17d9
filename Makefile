# HCP: two commands do everything: `make run` and `make test`.
SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
SYSTEM_PYTHON ?= python3
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DAGSTER_DISABLE_TELEMETRY := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
# Where it is set, each of a platform's twenty processes compiles all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z][a-zA-Z_-]*:.*##' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "}; {printf "  make %-12s %s\n", $$1, $$2}' | LC_ALL=C sort

$(VENV)/.installed: requirements/dev.txt requirements/uv.txt pyproject.toml
	@$(SYSTEM_PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "HCP needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": set SYSTEM_PYTHON=/path/to/python3.11")'
	@test -x $(PY) || $(SYSTEM_PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || $(PY) -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(PY) --require-hashes -r requirements/dev.txt
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## Install the locked packages into .venv, nothing else

.PHONY: run
run: setup ## Start the whole platform on this machine (Ctrl-C stops it)
	@$(VENV)/bin/hcp up $(ARGS)

.PHONY: start
start: setup ## Start the whole platform in the background
	@$(VENV)/bin/hcp up --detach $(ARGS)

.PHONY: stop
stop: ## Stop the platform started by run or start
	@$(VENV)/bin/hcp down $(ARGS)

WORKERS := 3
.PHONY: test
test: setup lint-rules ## Everything CI runs: lint, and all tests beside its longest parts
	@$(MAKE) --no-print-directory -j3 tests lint-definitions lint-types

.PHONY: tests
tests:
	@$(PY) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS) \
		|| { code=$$?; test $$code -eq 1 || exit $$code; $(PY) -m tests.once_more; }

.PHONY: lint
lint: setup lint-rules ## ruff, mypy --strict, the import layers, both code locations
	@$(MAKE) --no-print-directory -j2 lint-types lint-definitions

.PHONY: lint-rules lint-types lint-definitions
lint-rules: setup
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports --no-cache
lint-types:
	@nice -n 5 $(VENV)/bin/mypy
lint-definitions:
	@nice -n 5 $(PY) -m tests.validate_definitions

.PHONY: lint-python
lint-python: lint ## The same as lint

.PHONY: test-unit
test-unit: setup ## Only the fast tests: units and properties
	@$(PY) -m pytest tests/unit tests/property $(ARGS)

.PHONY: fmt
fmt: setup ## Format and fix what can be fixed
	@$(VENV)/bin/ruff check --fix . ; $(VENV)/bin/ruff format .

.PHONY: bench
bench: setup ## Run the benchmarks (make bench ARGS='tick-to-ack --quick')
	@$(VENV)/bin/hcp bench $(if $(ARGS),$(ARGS),all)

.PHONY: soak
soak: setup ## Process chaos on a platform of its own (make soak MINUTES=10 SEED=1)
	@$(PY) -m tests.faults.chaos --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) $(ARGS)

.PHONY: soak-deterministic
soak-deterministic: setup ## Allocators and gateways on virtual time (STEPS=1000000 SEED=1)
	@$(PY) -m tests.faults --steps $(or $(STEPS),1000000) --seed $(or $(SEED),1) $(ARGS)

.PHONY: scale-out
scale-out: setup ## Postgres, lake and runs elsewhere: what that costs (RUNS=8)
	@$(PY) -m tests.scale_out --runs $(or $(RUNS),8) $(ARGS)

.PHONY: docs
docs: setup ## Regenerate what is derived from the code (settings and command pages, wire code)
	@$(PY) -m tests.regenerate_docs

CLASSES := .hcp/classes
HELD_OUT := agency laboratory
.PHONY: classifier
classifier: setup ## Learn the classifier of workloads anew and score it (a minute)
	@mkdir -p $(CLASSES)
	@$(PY) -m simulators.workloads.lessons --out $(CLASSES)/lessons.ndjson
	@for name in $(HELD_OUT); do $(PY) -m simulators.workloads --seed 3 --from 2025-06-01T00:00Z --to 2025-08-01T00:00Z --flat \
		--count 4000 --assumed simulators/workloads/held_out/$$name.yaml --out $(CLASSES)/$$name.ndjson; done
	@$(VENV)/bin/hcp model learn-classes $(CLASSES)/lessons.ndjson $(HELD_OUT:%=--held-out $(CLASSES)/%.ndjson) \
		--out hcp_pipelines/workloads/classifier/shipped.npz
	@$(VENV)/bin/hcp model score-classes $(HELD_OUT:%=$(CLASSES)/%.ndjson)

MLFLOW_VENV := .venv-mlflow
$(MLFLOW_VENV)/.installed: requirements/mlflow-ui.txt
	@test -x $(MLFLOW_VENV)/bin/python || $(SYSTEM_PYTHON) -m venv $(MLFLOW_VENV)
	$(VENV)/bin/uv pip install --quiet --python $(MLFLOW_VENV)/bin/python --require-hashes -r requirements/mlflow-ui.txt
	@touch $@

.PHONY: mlflow-ui
mlflow-ui: setup $(MLFLOW_VENV)/.installed ## MLflow's pages over the running platform's record of trainings, on loopback
	@$(PY) -m hcp_pipelines.orchestration.training.ui

.PHONY: lock
lock: setup ## Resolve requirements/*.in anew into the lock with hashes
	@for name in runtime scale dev uv mlflow-ui; do $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements/$$name.in -o requirements/$$name.txt; done

.PHONY: clean
clean: ## Remove what set-up, runs and tests left behind (.hcp too; stops nothing)
	rm -rf $(VENV) $(MLFLOW_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info dbt/target dbt/logs .hcp
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
