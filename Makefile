# Everything a newcomer needs: `make demo` and `make test`. Each does all of its own set-up.
.DEFAULT_GOAL := help
SHELL := /bin/bash
HOSTS ?= 0
CHECK ?=
MINUTES ?= 3
SEED ?= 5
PY := .venv/bin/python

.PHONY: help demo test test-slow fuzz molecule bench bench-jobs bench-download bench-catalogue bench-engine check format lock reference pictures migration clean

help: ## Say what there is.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: ## Bring this machine up as a node and ask it something. HOSTS=2: two real SSH hosts. CHECK=1: once, for scripts.
	@tools/env.sh control
	@$(PY) -m demo --hosts $(HOSTS) $(if $(CHECK),--check)

test: ## Install what the tests need and run them, but for the slow ones.
	@tools/env.sh dev
	@tools/system-packages.sh
	@tools/test.sh

bench: ## Measure the router beside its peers, on loopback, in ten minutes or so. Last line: one JSON object.
	@tools/env.sh dev
	@benchmarks/install.sh
	@ulimit -n 16384; exec $(PY) -m benchmarks

bench-jobs: ## Measure jobs beside ansible-playbook by hand, on this machine. Last line: one JSON object.
	@tools/env.sh dev
	@exec $(PY) -m benchmarks.jobs

bench-download: ## Measure how weights travel, on this machine; takes 6 GB of /dev/shm. Last line: one JSON object.
	@tools/env.sh dev
	@exec $(PY) -m benchmarks.download

fuzz: ## Send hostile requests to every operation of API and router for three minutes. MINUTES=30, SEED=9 for more and others.
	@tools/env.sh dev
	@$(PY) -m tests.contract --minutes $(MINUTES) --seed $(SEED)

test-slow: ## Roles and drivers on hosts, upgrades under load, the control plane on a host, the compiled engine: 40 minutes.
	@tools/env.sh dev
	@tools/system-packages.sh
	@tools/test-slow.sh

bench-engine: ## Measure streams through router and node beside the bare engine, on this machine. Last line: one JSON object.
	@tools/env.sh dev
	@exec $(PY) -m benchmarks.engine

bench-catalogue: ## Measure the hub list with 200 models on 100 nodes. Last line: one JSON object.
	@tools/env.sh dev
	@exec $(PY) -m benchmarks.catalogue

molecule: ## Scenarios of the roles on real hosts, some minutes each. ROLE=gpu_host: those of one role.
	@tools/env.sh dev
	@tools/system-packages.sh
	.venv/bin/pytest -q tests/molecule $(if $(ROLE),-k $(ROLE))

check: ## Lint, types, import contract, playbooks, migrations.
	@tools/env.sh dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/ansible-lint --offline --profile production
	$(PY) -m control_api.migrations check

format: ## Format the code.
	@tools/env.sh dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lock: ## Resolve all dependencies again. Writes no index address.
	@tools/env.sh dev
	@tools/lock.sh

reference: ## Write the reference pages that come from the code.
	@tools/env.sh dev
	$(PY) tools/write_reference.py

pictures: ## Make the pictures of docs/images again, from the dashboard on a fleet that the tests make up.
	@tools/env.sh dev
	$(PY) -m tests.dashboards.screenshots

migration: ## Write a migration: make migration STORE=control M="add a column".
	@tools/env.sh dev
	$(PY) -m control_api.migrations revision $(STORE) "$(M)"

clean: ## Remove what is made here; caches of the user stay.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache dist build
