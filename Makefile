# Two commands: `make demo` shows the whole story, `make check` proves it. Each sets up what it needs.
# The rest is for those who work here: `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
PARALLEL := -n 2 --dist loadfile
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Nobody is told what runs here.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help install demo scenario-1 scenario-2 cmapss pictures compare check quick durations pythons static lint types layers test proof fuzz bench bench-accept clean

help: ## What can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: ## The environment, hash-checked from the lock files
	@bash requirements/install.sh

demo: install ## The main job, start to end: build, attack, sign, approve, register, pull; then refuse. SERVE=1: then review
	@python -m demo
	@$(if $(SERVE),python -m demo.review_server,true)

scenario-1: install ## Predictive manipulation: failing pumps are made to look healthy, by every way; each is stopped
	@python -m demo.scenario_1

scenario-2: install ## A grid's transformers: somebody hides that several fail soon; stopped. 10 min the first time
	@python -m demo.scenario_2

cmapss: export DATA := $(value DATA)
cmapss: export SUBSET ?= FD001
cmapss: install ## The same pipeline on NASA's C-MAPSS: make cmapss DATA=<folder or zip> SUBSET=FD001 (to FD004)
	@test -n "$$DATA" || { echo "make cmapss: expected DATA=<folder or zip with train_$$SUBSET.txt, test_$$SUBSET.txt, RUL_$$SUBSET.txt>"; exit 2; }
	@python -m demo --data "$$DATA" --subset "$$SUBSET"

pictures: install ## Pictures of the review page for the documents, after make demo; needs Chromium
	@python -m demo.pictures

compare: install ## Train every model family and put the comparison into the report; after `make demo` or `dvc repro`
	dvc repro pipelines/dvc.yaml
	dvc repro --single-item --force assess
	@echo "the comparison is in reports/report.html; to sign and submit the new report: dvc repro"

check: install ## Lint, types, layers, tests: what CI runs. 11 min on two cores
	@log=$$(mktemp); trap "rm -f $$log" EXIT; status=0; \
	$(MAKE) --no-print-directory static >$$log 2>&1 & static=$$!; \
	$(MAKE) --no-print-directory test || status=1; \
	wait $$static || status=1; \
	cat $$log; exit $$status

quick: install ## The tests that your change touches, then other fast ones: one minute
	@python -m tests.quick

durations: install ## All tests; rewrites tests/durations.json, which make quick plans by
	python -m pytest $(PARALLEL) --record-durations

static: lint types layers ## Lint, types and layers only

lint:
	ruff check .
	ruff format --check .

types:
	mypy

layers:
	lint-imports

test:
	python -m pytest $(PARALLEL)

pythons: install ## The wheel on each Python from 3.11 to 3.13 that is here: verify, pull, predict. 150 MB each
	@TWINSEAL_PYTHONS=1 python -m pytest tests/test_pythons.py

proof: ## Tests that start servers by the dozen: races, kill -9 at every step, restores; Spark; the tutorial. Half an hour or more
	@bash requirements/install.sh --with-spark
	@python -m pytest $(PARALLEL) -m proof

fuzz: install ## Search for inputs that no test has tried: every parser, every law. FUZZ_SECONDS=10 (for each parser)
	@python -m tests.fuzz.run --seconds $(or $(FUZZ_SECONDS),10)
	@python -m pytest $(PARALLEL) -m hypothesis --hypothesis-profile=search

bench: install ## Measure, and compare with the accepted figures: make bench PART=pull (accuracy, attack, cold_start, fleet, frames, pull, serve, soak, start, twin_rates, validation), DATA=<folder or zip> SUBSET=FD001, UNITS=<fleet>, SOAK_S=<seconds>
	@DATA="$(if $(DATA),$(abspath $(DATA)))" SUBSET="$(SUBSET)" UNITS="$(UNITS)" SOAK_S="$(SOAK_S)" python -m bench $(PART)

bench-accept: install ## Take the last results of make bench as the accepted figures (bench/accepted.json): PART=pull
	@python -m bench --accept $(PART)

clean: ## Remove the environment and the caches. Keys, models and reports stay
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis .import_linter_cache
