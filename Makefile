# SPDX-License-Identifier: Apache-2.0
# `make help` lists what there is. Everything runs in .venv, which `make setup` makes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

BIN := .venv/bin
STAMP := .venv/.stamp
SOURCES := core operator gateway agent_container cli client tests tools benchmarks examples
TYPED := $(wildcard core operator gateway agent_container cli client tests tools benchmarks)

# Runs one step quietly: its name and time, and its output only when it fails.
STEP := tools/step.sh

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: $(STAMP) ## make .venv and see to redis-server; PYTHON=... chooses the interpreter
	@tools/ensure_redis.sh

$(STAMP): requirements/dev.lock pyproject.toml tools/ensure_venv.py
	@PYTHON="$(PYTHON)" python3 tools/ensure_venv.py

.PHONY: check
check: $(STAMP) ## formatting, lint, types, imports, generated files, unit tests: at most 60 s
	@$(MAKE) -j2 -k step-types step-format step-lint step-imports step-verify step-unit

.PHONY: step-format step-lint step-types step-imports step-verify step-unit
step-format:
	@$(STEP) format $(BIN)/ruff format --check --quiet .
step-lint:
	@$(STEP) lint $(BIN)/ruff check --quiet .
step-types:
	@$(STEP) types $(BIN)/mypy $(TYPED)
step-imports:
	@$(STEP) imports $(BIN)/lint-imports
step-verify:
	@$(STEP) verify $(BIN)/python -m tools.verify
step-unit:
	@$(STEP) unit $(BIN)/pytest -q tests/unit tests/docs/test_pages.py

.PHONY: format
format: $(STAMP) ## format the code and mend what lint can mend
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: generate
generate: $(STAMP) ## write the generated files: protocol stubs, crds, docs/reference
	@$(BIN)/python -m tools.generate

.PHONY: manifests
manifests: $(STAMP) ## write manifests/install.yaml, the chart without Helm
	@$(BIN)/python -m tools.manifests

.PHONY: verify
verify: $(STAMP) ## fail when a generated file is not what `make generate` writes
	@$(BIN)/python -m tools.verify

.PHONY: test
test: setup check ## check, component tests, documentation, ownership model, and real pods where a cluster can be had
	@tools/e2e.sh $(LANES) step-spine step-host step-component step-client model step-docs

.PHONY: e2e
e2e: setup ## chart and operator against a real API server, then everything on real pods
	@tools/e2e.sh $(LANES)

# So many steps at once: most of their time is spent waiting for processes, not computing.
LANES ?= 4
COMPONENT := tests/component
CLIENT_TESTS := $(addprefix $(COMPONENT)/,client devcluster images operator repository store)
APART := $(COMPONENT)/host $(COMPONENT)/spine $(CLIENT_TESTS)
OTHER_TESTS := $(filter-out $(APART),$(patsubst %/,%,$(wildcard $(COMPONENT)/[a-z]*/)))
# What failed is remembered for each step by itself: they run at once.
TWICE = PYTEST_CACHE=.pytest_cache/$@ $(STEP) $(@:step-%=%) tools/pytest_twice.sh
.PHONY: step-host step-spine step-client step-component step-docs
step-host:
	@$(TWICE) $(COMPONENT)/host
step-spine:
	@$(TWICE) $(COMPONENT)/spine
step-client:
	@$(TWICE) $(CLIENT_TESTS)
step-component:
	@$(TWICE) $(OTHER_TESTS)
step-docs:
	@$(TWICE) tests/docs

# tools/e2e.sh brings the cluster up for these.
ON_CLUSTER = . ./.devcluster/env &&
.PHONY: step-pods step-operator step-api-server
step-pods:
	@$(ON_CLUSTER) $(STEP) chart $(BIN)/pytest -q -p no:cacheprovider tests/chart
	@$(ON_CLUSTER) $(STEP) deploy nice -n 10 python3 tools/deploy.py
	@$(ON_CLUSTER) PYTEST_CACHE=.pytest_cache/$@ $(STEP) e2e tools/pytest_twice.sh tests/e2e
step-operator:
	@$(ON_CLUSTER) $(TWICE) tests/integration/operator
step-api-server:
	@$(ON_CLUSTER) $(TWICE) $(filter-out %/operator,$(patsubst %/,%,$(wildcard tests/integration/[a-z]*/)))

.PHONY: model
model: setup ## the ownership state machine on a real redis-server; FULL=1 for ten times the runs
	@FULL="$(FULL)" $(STEP) model $(BIN)/pytest -q -p no:cacheprovider tests/model

.PHONY: faults
faults: setup ## crash the operator at each write, stale views, odd specs, Redis in trouble; FULL=1: all; ONLY=crashes: one
	@FULL="$(FULL)" PYTHONPATH=tests:. $(BIN)/python -m faults $(ONLY)

MEASURE = $(BIN)/python -m benchmarks

.PHONY: bench
bench: setup ## measure latency, throughput, memory and the old way on this machine, six minutes; SCALE=quick: two
	@$(MEASURE) run $(if $(SCALE),--scale $(SCALE) --name $(SCALE))

.PHONY: bench-cluster
bench-cluster: setup deploy ## on real pods, with API writes, memory and CPU of operator and gateway
	@. ./.devcluster/env && $(MEASURE) run --cluster

.PHONY: bench-compare
bench-compare: setup ## this checkout against another revision, by turns: BASE=<rev>, ROUNDS=6, ONLY=path
	@$(MEASURE) compare --base "$(BASE)" $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY))

.PHONY: bench-readme
bench-readme: setup ## write the figures of benchmarks/results/bench.json into README.md
	@$(MEASURE) readme

.PHONY: bench-tests
bench-tests: setup ## the tests with the marker performance: the headline figures, quickly
	@$(BIN)/pytest -q -s -m performance tests/performance

.PHONY: overload
overload: setup ## five times the capacity for SECONDS=60; PROTOCOL=rest or grpc, WORK=burn or wait
	@$(MEASURE) overload $(if $(SECONDS),--seconds $(SECONDS)) $(if $(PROTOCOL),--protocol $(PROTOCOL)) $(if $(WORK),--work $(WORK))

.PHONY: neighbours
neighbours: setup ## a slow and a failing project beside normal ones; ONLY=sleeping, burning, raising or exiting
	@$(MEASURE) neighbours $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ONLY),--bad $(ONLY))

SOAK_SECONDS ?= 1800
.PHONY: soak
soak: setup ## moderate load with cancelled streams for SOAK_SECONDS=1800: does memory grow
	@$(MEASURE) soak --seconds $(SOAK_SECONDS) $(if $(PROTOCOL),--protocol $(PROTOCOL))

CHAOS_SECONDS ?= 600
CHAOS = . ./.devcluster/env && PYTHONPATH=tests:. $(BIN)/python -m chaos $(if $(SEED),--seed $(SEED))

.PHONY: chaos
chaos: setup ## kill parts of the deployed release at random under load for CHAOS_SECONDS=600
	@$(CHAOS) faults --seconds $(CHAOS_SECONDS) $(if $(ONLY),--only $(ONLY))

.PHONY: rollout-under-load
rollout-under-load: setup ## a pool's new configuration, new image and drain while requests go on
	@$(CHAOS) updates $(if $(ONLY),--only $(ONLY))

.PHONY: scale
scale: setup ## the deployed operator with 1,000 declared and 1,000 undeclared instances
	@$(CHAOS) scale

.PHONY: scale-step
scale-step: setup ## ten times the load on a pool of the deployed release that scales by itself, with and without forecast
	@$(CHAOS) step $(if $(ONLY),--only $(ONLY))

.PHONY: demo
demo: setup ## the quickstart on a real Kubernetes: cluster, images, chart, answers in three tiers
	@$(BIN)/python -m tools.demo

.PHONY: deploy
deploy: ## this checkout's images and chart on the cluster that is up
	@python3 tools/deploy.py

.PHONY: demo-local
demo-local: setup ## run the quickstart on this machine, without a cluster
	@$(BIN)/python -m tools.demo_local

.PHONY: flags-demo
flags-demo: setup ## roll a feature flag out over PROJECTS=400 and back, on this machine, or with CLUSTER=1 on pods
	@PROJECTS="$(PROJECTS)" $(BIN)/python -m tools.flags_demo $(if $(CLUSTER),--cluster)

.PHONY: cluster-up
cluster-up: ## a real Kubernetes for this machine; writes .devcluster/env
	@python3 tools/devcluster up

.PHONY: cluster-down
cluster-down: ## end it; leaves caches only
	@python3 tools/devcluster down

.PHONY: cluster-status
cluster-status: ## say what of it works
	@python3 tools/devcluster status

.PHONY: test-cluster
test-cluster: setup ## the development cluster itself; takes the machine's cluster down and up
	@AGENTPOOL_TEST_DEVCLUSTER=1 $(STEP) devcluster $(BIN)/pytest -q tests/cluster/devcluster

.PHONY: lock
lock: ## resolve the dependencies anew into requirements/dev.lock
	@tools/lock.sh

.PHONY: clean
clean: ## remove .venv, caches and build output
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .demo build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
