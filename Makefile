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
# With the one the project's own modules are not found, with the other altair cannot be used.
unexport PYTHONSAFEPATH
unexport PYTHONOPTIMIZE

.PHONY: help setup run update ui serve token shell docs report test test-services lint prove evaluate bench clean-up backup restore rollback clean

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
	@$(PY) -m orchestration.run $(if $(DRY_RUN),--dry-run)

update: $(INSTALLED) ## Observe the upstream files and rebuild what they changed, without a daemon (DRY_RUN=1: only say what would be fetched)
	@$(PY) -m orchestration.run --no-recommend $(if $(DRY_RUN),--dry-run)

ui: $(INSTALLED) ## The Dagster UI with its daemon on http://127.0.0.1:3000
	@$(PY) -m orchestration.ui

serve: $(INSTALLED) ## The newest promoted bento on http://127.0.0.1:8000
	@$(PY) -m bento.serve

token: $(INSTALLED) ## A key for /login, ROLE=admin, app, or user with USER_ID=number
	@$(PY) -m bento.issue_key --role $(or $(ROLE),admin) $(if $(USER_ID),--user-id $(USER_ID)) $(if $(LABEL),--label "$(LABEL)")

shell: $(INSTALLED) ## DuckDB's shell on the published copy, with a list of its tables; SQL="FROM dim_movies" answers and ends
	@$(PY) -m orchestration.shell $(if $(SQL),-c "$(SQL)")

docs: $(INSTALLED) ## The data dictionary (docs/data-dictionary.md), and dbt's docs as one page in the home
	@$(PY) -m orchestration.docs_generation

report: $(INSTALLED) ## One HTML file with figures and interactive plots of the published copy, to send on; FILE=path or in reports/
	@$(PY) -m orchestration.visualization $(if $(FILE),"$(FILE)")

lint: $(INSTALLED) ## Linters, types and import rules
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/sqlfluff lint dbt_project

test: $(INSTALLED) lint ## Linters, types, unit, graph, integration and service tests
	@$(PY) -m pytest -n 2 --dist loadfile

test-services: $(INSTALLED) ## The store's and online store's tests on real servers; installs none, says which are missing
	@$(PY) -m tests.servers
	@MARQUEE_REQUIRE_SERVERS=1 $(PY) -m pytest -k "postgresql or redis" tests/unit/bento/store tests/unit/features tests/integration

prove: $(INSTALLED) ## The long proofs, or ONLY=kills, disk_full, ...; JSON under $$MARQUEE_HOME/reports
	@$(PY) -m pytest $(if $(ONLY),$(patsubst %,tests/prove/test_%.py,$(ONLY)),tests/prove) -s

# A folder of MovieLens editions; without one a look beside the project.
EVALUATE_DATA := $(or $(MARQUEE_RAW_DIR),../shared/data)
EVALUATE_REPORTS := $(or $(MARQUEE_HOME),data)/reports
EVALUATE_GENERATED := $(EVALUATE_REPORTS)/generated
evaluate: $(INSTALLED) ## The quality tables, or PROTOCOL=... MODEL=... of them; RATINGS=path: one protocol on a file, as JSON
ifdef RATINGS
	@$(PY) -m models.evaluate $(or $(PROTOCOL),leave-last-out) --ratings "$(RATINGS)" $(if $(MODEL),--model $(MODEL))
else
	@$(if $(filter temporal,$(or $(PROTOCOL),temporal)),$(PY) -m orchestration.synthetic.generated_edition "$(EVALUATE_GENERATED)")
	@$(PY) -m models.evaluation.leaderboards --data "$(EVALUATE_DATA)" --reports "$(EVALUATE_REPORTS)" --generated "$(EVALUATE_GENERATED)" \
		$(if $(PROTOCOL),--protocol $(PROTOCOL)) $(if $(MODEL),--model $(MODEL)) $(if $(SEEDS),--seeds $(SEEDS))
endif

# These know no home, and torch would keep its cache in the folder of temporary files.
evaluate bench: export TORCHINDUCTOR_CACHE_DIR ?= $(or $(MARQUEE_HOME),data)/cache/torchinductor
bench: $(INSTALLED) ## The pipeline at three sizes beside a hand-written script, the models, and the service; ONLY=pipeline, models or serving, with BENCH="..." for its options
ifeq ($(filter-out pipeline,$(ONLY)),)
	@$(PY) -m benchmarks.pipeline $(BENCH)
endif
ifeq ($(filter-out models,$(ONLY)),)
	@$(PY) -m benchmarks.models --reports "$(EVALUATE_REPORTS)" $(if $(ONLY),$(BENCH))
endif
ifeq ($(filter-out serving,$(ONLY)),)
	@$(PY) -m benchmarks.serving $(if $(ONLY),$(BENCH))
endif

clean-up: $(INSTALLED) ## Remove what the retention settings let go, saying what it frees; DRY_RUN=1 only says it
	@$(PY) -m orchestration.maintenance clean-up $(if $(DRY_RUN),--dry-run)

backup: $(INSTALLED) ## Write what upstream files cannot give back into one file, FILE=path or in backups/
	@$(PY) -m orchestration.maintenance backup $(if $(FILE),"$(FILE)")

restore: $(INSTALLED) ## Make the home hold what the backup FILE=path holds; then `make run`
	@test -n "$(FILE)" || { echo "make restore FILE=path/to/backup.tar.gz"; exit 2; }
	@$(PY) -m orchestration.maintenance restore "$(FILE)"

rollback: $(INSTALLED) ## Serve the version before, or VERSION=..., until RELEASE=1 lets the next run promote again
	@$(PY) -m orchestration.maintenance rollback $(if $(RELEASE),--release,$(VERSION))

clean: ## Remove the state of the default home (data/); the virtual environment stays
	rm -rf data
