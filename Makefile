# The commands of the project; `make help` lists them. Each sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell command -v python3.11 || command -v python3)
INSTALLED := $(VENV)/.installed

# `make run MOVIELENS=ml-latest-small` is the short form of MARQUEE_MOVIELENS=ml-latest-small.
ifdef MOVIELENS
export MARQUEE_MOVIELENS := $(MOVIELENS)
endif
export DO_NOT_TRACK := 1
export PYTHONUNBUFFERED := 1

.PHONY: help setup run update ui serve test lint prove evaluate clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(INSTALLED): requirements.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Marquee needs Python 3.11; found '$$("$(PYTHON)" --version 2>&1)'. Set PYTHON=/path/to/python3.11."; exit 1; }
	@echo "Installing the packages of requirements.lock into $(VENV) (about 1 GB; some minutes the first time)"
	@test -x $(PY) || "$(PYTHON)" -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --progress-bar off -r requirements.lock
	@touch $@

setup: $(INSTALLED) ## Make .venv from requirements.lock

run: $(INSTALLED) ## Materialize everything, then ask the built bento for recommendations over HTTP
	@$(PY) -m orchestration.run

update: $(INSTALLED) ## Observe the upstream files and rebuild what they changed, without a daemon
	@$(PY) -m orchestration.run --no-recommend

ui: $(INSTALLED) ## The Dagster UI with its daemon on http://127.0.0.1:3000
	@$(PY) -m orchestration.ui

serve: $(INSTALLED) ## The newest promoted bento on http://127.0.0.1:8000
	@$(PY) -m bento.serve

lint: $(INSTALLED) ## Linters, types and import rules
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/sqlfluff lint dbt_project

test: $(INSTALLED) lint ## Linters, types, unit, graph, integration and service tests
	@$(PY) -m pytest -n 2 --dist loadfile

prove: $(INSTALLED) ## The long proofs; JSON under $$MARQUEE_HOME/reports
	@$(PY) -m pytest tests/prove -s

evaluate: $(INSTALLED) ## The comparison of recommenders on RATINGS=path/to/ratings.csv
	@$(PY) -m models.evaluate leave-last-out --ratings "$(RATINGS)"

clean: ## Remove the state of the default home (data/); the virtual environment stays
	rm -rf data
