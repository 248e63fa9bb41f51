"""What the assets share: the settings, dbt, and the few conventions of their definitions (owners, code versions)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject

from orchestration.automation_conditions import RetryDue, UpstreamChecksPassed
from orchestration.defs.dbt import parse
from settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

OWNERS = ["team:data-platform"]
MODEL_OWNERS = ["team:recommender"]

#: Marks an asset that is a view: it holds no rows, so its version is that of what it reads.
VIEW_TAG = "marquee/view"

#: The macros of dbt_project/macros/settings.sql and the variables that they read.
SETTING_MACROS = {"macro.marquee.catalogue_min_votes": "MARQUEE_CATALOGUE_MIN_VOTES"}

#: Rebuilds an asset when a direct upstream version really changed, and stops where an output came out the same; a build
#: that failed or was killed is tried again. Both wait while a check upstream has failed or is still to come.
ON_CHANGE = (
    (
        dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()).since_last_handled()
        | RetryDue()
    )
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
    & UpstreamChecksPassed()
).with_label("when upstream data changed")


def source_digest(*paths: str) -> str:
    """A code version: the digest of the source files (or folders of them) that decide an asset's content."""
    digest = hashlib.sha256()
    for path in sorted(_files(paths)):
        digest.update(str(path.relative_to(PROJECT_ROOT)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _files(paths: Iterable[str]) -> Iterable[Path]:
    for name in paths:
        path = PROJECT_ROOT / name
        if path.is_dir():
            yield from (file for file in path.rglob("*") if file.suffix in {".py", ".sql", ".yml", ".yaml"})
        elif path.exists():
            yield path
        else:
            yield from path.parent.glob(path.name + "*.py")


def dbt_environment(settings: Settings) -> dict[str, str]:
    """The variables that dbt's profile and its own switches read."""
    return {
        "MARQUEE_WAREHOUSE": str(settings.warehouse),
        "MARQUEE_THREADS": str(settings.threads),
        "MARQUEE_DUCKDB_MEMORY": settings.duckdb_memory,
        "MARQUEE_CATALOGUE_MIN_VOTES": str(settings.catalogue_min_votes),
        "DBT_TARGET_PATH": str(settings.dbt_target),
        "DBT_LOG_PATH": str(settings.home / "dbt" / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def quiet_environment(settings: Settings) -> dict[str, str]:
    """Every switch that keeps the packages from phoning home, and the homes of their state."""
    return {
        "DAGSTER_HOME": str(settings.dagster),
        "BENTOML_HOME": str(settings.bentoml),
        "BENTOML_DO_NOT_TRACK": "True",
        "GX_ANALYTICS_ENABLED": "false",
        "FEAST_USAGE": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **dbt_environment(settings),
    }


def dbt_project(settings: Settings) -> tuple[DbtProject, Manifest | None]:
    """The dbt project with its manifest file, parsed anew when a file of the project is newer; then the manifest, too.

    The file is kept apart from what dbt writes while it builds, and replaced whole: one that a kill or a full disk had
    cut short would pass for the newest and stop every later start.
    """
    os.environ.update(dbt_environment(settings))
    project_dir = PROJECT_ROOT / "dbt_project"
    parsed = settings.home / "dbt" / "parsed"
    file = parsed / "manifest.json"
    newest = max(path.stat().st_mtime for path in project_dir.rglob("*") if path.suffix in {".sql", ".yml"})
    manifest = None
    if not file.exists() or file.stat().st_mtime < newest:
        aside = parsed / f".{os.getpid()}.part"
        try:
            aside.mkdir(parents=True, exist_ok=True)
            # In this process, which is likely to build next: dbt is imported and the project read but once.
            manifest = parse(project_dir, "--target-path", os.fspath(aside))
            settings.dbt_target.mkdir(parents=True, exist_ok=True)
            # What dbt itself reads on, when it builds: it need not parse the project once more.
            (aside / "partial_parse.msgpack").replace(settings.dbt_target / "partial_parse.msgpack")
            (aside / "manifest.json").replace(file)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return DbtProject(project_dir=project_dir, target_path=parsed, profiles_dir=project_dir), manifest


class MartTranslator(DagsterDbtTranslator):
    """dbt models as assets: owners, automation, a code version that follows SQL, macros and settings."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_asset_checks=True, enable_source_tests_as_checks=True))
        self._macros = source_digest("dbt_project/macros")

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Digest of the model's SQL and the project's macros, with the settings and metrics that the SQL is made of."""
        own = super().get_code_version(dbt_resource_props)
        if own is None:
            return None
        called = dbt_resource_props.get("depends_on", {}).get("macros", [])
        # From where dbt itself takes them: `dbt_project` has put them there.
        read = [f"{name}={os.environ.get(name, '')}" for macro, name in SETTING_MACROS.items() if macro in called]
        # Metrics are defined in the yml, and the SQL is made of them.
        defined = dbt_resource_props["config"].get("meta", {}).get("metrics")
        said = [hashlib.sha256(json.dumps(defined).encode()).hexdigest()[:12]] if defined else []
        return "-".join([own[:12], self._macros, *read, *said])

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """Views are marked."""
        view = {VIEW_TAG: ""} if dbt_resource_props["config"].get("materialized") == "view" else {}
        return {**super().get_tags(dbt_resource_props), **view}

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """One owner for the whole warehouse."""
        return OWNERS

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition:
        """Rebuilt when upstream data changed."""
        return ON_CHANGE
