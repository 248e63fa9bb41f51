"""What the assets share: the settings, dbt, and the few conventions of their definitions (owners, code versions)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, DbtProject

from settings import PROJECT_ROOT, Settings

OWNERS = ["team:data-platform"]
MODEL_OWNERS = ["team:recommender"]

#: Marks an asset that is a view: it holds no rows, so its version is that of what it reads.
VIEW_TAG = "marquee/view"

#: Rebuilds an asset when a direct upstream version really changed, and stops where an output came out the same.
ON_CHANGE = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()).since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
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
        **dbt_environment(settings),
    }


def dbt_project(settings: Settings) -> DbtProject:
    """The dbt project with its manifest, parsed anew when a file of the project is newer."""
    os.environ.update(dbt_environment(settings))
    project_dir = PROJECT_ROOT / "dbt_project"
    manifest = settings.dbt_target / "manifest.json"
    newest = max(path.stat().st_mtime for path in project_dir.rglob("*") if path.suffix in {".sql", ".yml"})
    if not manifest.exists() or manifest.stat().st_mtime < newest:
        settings.dbt_target.mkdir(parents=True, exist_ok=True)
        dbt = Path(sys.executable).with_name("dbt")
        done = subprocess.run(
            [dbt, "parse", "--quiet", "--project-dir", project_dir, "--profiles-dir", project_dir],
            cwd=project_dir,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"dbt parse failed:\n{done.stdout}")
    return DbtProject(project_dir=project_dir, target_path=settings.dbt_target, profiles_dir=project_dir)


class MartTranslator(DagsterDbtTranslator):
    """dbt models as assets: owners, automation, and a code version that follows the macros as well as the SQL."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_asset_checks=True, enable_source_tests_as_checks=True))
        self._macros = source_digest("dbt_project/macros")

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Digest of the model's SQL and of the project's macros."""
        own = super().get_code_version(dbt_resource_props)
        return None if own is None else f"{own[:12]}-{self._macros}"

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


def resources(settings: Settings) -> dict[str, Any]:
    """The resources by the names that the assets ask for."""
    dbt = DbtCliResource(
        project_dir=dbt_project(settings),
        dbt_executable=str(Path(sys.executable).with_name("dbt")),
    )
    return {"settings": settings, "dbt": dbt}
