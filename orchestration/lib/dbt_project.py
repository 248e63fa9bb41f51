"""What the assets share: the settings, dbt, and the few conventions of their definitions (owners, code versions)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject

from environment import adopt_environment, dbt_variables
from orchestration.lib.automation_conditions import RetryDue, UpstreamChecked, UpstreamSettled
from orchestration.lib.code_versions import code_version, sql_version
from orchestration.lib.dbt_runner import parse
from settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

OWNERS = ["team:data-platform"]
MODEL_OWNERS = ["team:recommender"]

#: Marks an asset that is a view: it holds no rows, so its version is that of what it reads.
VIEW_TAG = "marquee/view"

DBT_PROJECT = PROJECT_ROOT / "dbt_project"
#: Folders of the project that dbt writes where somebody calls it by hand.
DBT_OUTPUT = frozenset({"target", "logs"})
#: The digest's name in a manifest's metadata, among the variables of users' own that dbt keeps there.
_DIGEST = "MARQUEE_PARSE_DIGEST"

#: The macros of dbt_project/macros/settings.sql and the variables that they read.
SETTING_MACROS = {"macro.marquee.catalogue_min_votes": "MARQUEE_CATALOGUE_MIN_VOTES"}

_CHANGED = (
    (
        dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()).since_last_handled()
        | RetryDue()
    )
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)

#: Rebuilds an asset when a direct upstream version really changed, and stops where an output came out the same; a build
#: that failed or was killed is tried again. Both wait while a check upstream has failed or is still to come.
ON_CHANGE = (_CHANGED & UpstreamChecked()).with_label("when upstream data changed")

#: Likewise for what leaves the warehouse or leads to serving: once all that is ahead of it is built and judged.
ON_SETTLED_CHANGE = (_CHANGED & UpstreamSettled() & UpstreamChecked()).with_label(
    "when upstream data changed and settled"
)


def dbt_project(settings: Settings, project_dir: Path = DBT_PROJECT) -> tuple[DbtProject, Manifest | None]:
    """Return the dbt project with its manifest file, parsed again when the project is another; then the manifest, too.

    The file is kept apart from what dbt writes while it builds, and replaced whole: one that a kill or a full disk had
    cut short would pass for the newest and stop every later start.
    """
    adopt_environment(settings)
    parsed = settings.home / "dbt" / "parsed"
    file = parsed / "manifest.json"
    digest = parse_digest(settings, project_dir)
    manifest = None
    if _digest_in(file) != digest:
        aside = parsed / f".{os.getpid()}.part"
        try:
            aside.mkdir(parents=True, exist_ok=True)
            # In this process, which is likely to build next: dbt is imported and the project read but once. From an
            # empty folder, for dbt takes a yml of its last parse as it was where the file's time is the same.
            manifest = parse(project_dir, "--target-path", os.fspath(aside))
            settings.dbt_target.mkdir(parents=True, exist_ok=True)
            # What dbt itself reads on, when it builds: it need not parse the project once more.
            (aside / "partial_parse.msgpack").replace(settings.dbt_target / "partial_parse.msgpack")
            _note_digest(aside / "manifest.json", digest)
            (aside / "manifest.json").replace(file)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return DbtProject(project_dir=project_dir, target_path=parsed, profiles_dir=project_dir), manifest


def parse_digest(settings: Settings, project_dir: Path = DBT_PROJECT) -> str:
    """Return the digest of all that a parse reads: the project's files, the settings in them, and dbt's own version."""
    digest = hashlib.sha256()
    for path in sorted(path for path in project_dir.rglob("*") if path.is_file()):
        name = path.relative_to(project_dir)
        if name.parts[0] not in DBT_OUTPUT and not name.name.startswith("."):
            content = path.read_bytes()
            digest.update(f"{name.as_posix()}\0{len(content)}\0".encode() + content)
    versions = {name: version(name) for name in ("dbt-core", "dbt-duckdb")}
    # Where the warehouse lies is no part of a manifest: a home may be moved.
    read = dbt_variables(settings) | {"MARQUEE_WAREHOUSE": settings.warehouse.name}
    digest.update(json.dumps([versions, read], sort_keys=True).encode())
    return digest.hexdigest()


def _note_digest(manifest: Path, digest: str) -> None:
    """Write the digest into the manifest, so that a kill cannot part the two."""
    content = json.loads(manifest.read_text())
    content["metadata"]["env"][_DIGEST] = digest
    manifest.write_text(json.dumps(content))


def _digest_in(manifest: Path) -> str | None:
    """Return the digest that a manifest was made under; None if there is no manifest or it has no digest."""
    try:
        return str(json.loads(manifest.read_text())["metadata"]["env"][_DIGEST])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class MartTranslator(DagsterDbtTranslator):
    """dbt models as assets: owners, automation, a code version that follows SQL, macros and settings."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_asset_checks=True, enable_source_tests_as_checks=True))
        self._macros = code_version("dbt_project/macros")

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Version of a model's SQL and the project's macros, with the settings and metrics that the SQL is made of."""
        sql = dbt_resource_props.get("raw_code")
        if not sql:
            return None
        called = dbt_resource_props.get("depends_on", {}).get("macros", [])
        # From where dbt itself takes them: `dbt_project` has put them there.
        read = [f"{name}={os.environ.get(name, '')}" for macro, name in SETTING_MACROS.items() if macro in called]
        # Metrics are defined in the yml, and the SQL is made of them.
        defined = dbt_resource_props["config"].get("meta", {}).get("metrics")
        said = [hashlib.sha256(json.dumps(defined).encode()).hexdigest()[:12]] if defined else []
        return "-".join([sql_version(sql), self._macros, *read, *said])

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the resource's tags, with views marked."""
        view = {VIEW_TAG: ""} if dbt_resource_props["config"].get("materialized") == "view" else {}
        return {**super().get_tags(dbt_resource_props), **view}

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """One owner for the whole warehouse."""
        return OWNERS

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition:
        """Rebuilt when upstream data changed."""
        return ON_CHANGE
