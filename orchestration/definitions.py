"""The one entry point of Dagster: every asset, check, job, schedule and sensor of the platform."""

from __future__ import annotations

import json

import dagster as dg

from environment import adopt_environment
from orchestration.defs import automation
from orchestration.defs.analytics import assets as analysts
from orchestration.defs.features import assets as features
from orchestration.defs.ingestion import assets as raw
from orchestration.defs.ingestion import imdb_changes as changes
from orchestration.defs.ingestion import streaming
from orchestration.defs.privacy import assets as erasures
from orchestration.defs.promotion import assets as promotion
from orchestration.defs.serving import assets as serving
from orchestration.defs.training import assets as recommender
from orchestration.defs.warehouse import dbt_assets as warehouse
from orchestration.defs.warehouse.expectations import expectation_checks
from orchestration.lib.check_status import UpstreamChecks
from orchestration.lib.dbt_project import MartTranslator, dbt_project
from orchestration.lib.dbt_runner import Dbt
from settings import Settings


@dg.definitions
def marquee() -> dg.Definitions:
    """Build the graph for the home and edition that the ``MARQUEE_`` variables name."""
    settings = Settings()
    adopt_environment(settings)
    project, parsed = dbt_project(settings)
    manifest = json.loads(project.manifest_path.read_text())
    dbt = Dbt(project, manifest, MartTranslator(), parsed)
    marts = [".".join(key.path) for key in (*warehouse.mart_keys(manifest), *analysts.MADE_KEYS)]
    data = [
        raw.movielens_files,
        raw.imdb_files,
        raw.app_store,
        raw.app_tables,
        raw.movielens_tables,
        *raw.imdb_tables,
        streaming.streaming_files,
        streaming.streaming_tables,
        raw.ingest_ledgers,
        changes.imdb_changes,
        warehouse.warehouse_models(dbt),
        warehouse.published_copy(manifest),
        *features.feature_histories,
        features.training_set,
        features.online_store,
        recommender.catalogue,
        recommender.film_credits,
        recommender.film_map,
    ]
    data_checks = [
        expectation_checks("raw_expectations", [f"raw.{table}" for table in raw.RAW_TABLES]),
        raw.columns_as_declared,
        raw.published_counts,
        raw.counts_add_up,
        expectation_checks("mart_expectations", marts),
    ]
    checks = [
        *data_checks,
        promotion.trained_on_checked_data,
        promotion.beats_popularity,
        serving.bundle_answers,
        *automation.FRESHNESS,
    ]
    assets = [
        *data,
        *recommender.candidates(settings),
        recommender.comparison(settings.candidates),
        promotion.gate(settings),
        promotion.fitted_model,
        promotion.rating_model,
        serving.model_bundle,
        serving.promoted_model,
        serving.bento,
        analysts.user_segments,
        analysts.recommendations,
        analysts.mart_profiles(warehouse.mart_keys(manifest)),
        erasures.erasures,
    ]
    assets.append(analysts.trust(warehouse.mart_keys(manifest), assets, checks))
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=automation.JOBS,
        schedules=automation.SCHEDULES,
        sensors=automation.SENSORS,
        resources={"settings": settings, "dbt": dbt, "upstream_checks": UpstreamChecks.of([*assets, *checks])},
        # One process may write the warehouse, so the steps of a run follow each other in one.
        executor=dg.in_process_executor,
    )
