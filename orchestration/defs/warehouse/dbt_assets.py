"""dbt's staging, intermediate and mart tables as assets, their checks, and the copy that analysts open."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import dbt_assets
from sqlglot.errors import SqlglotError
from sqlglot.schema import MappingSchema

from orchestration.analytics.python_marts import MADE_MARTS
from orchestration.defs.analytics.assets import MADE_KEYS
from orchestration.lib.check_status import UpstreamChecks
from orchestration.lib.code_versions import code_version
from orchestration.lib.column_lineage import column_lineage, warehouse_schema, without
from orchestration.lib.dbt_project import ON_SETTLED_CHANGE, OWNERS
from orchestration.lib.dbt_runner import Dbt, DbtBuildFailed
from orchestration.lib.metadata import column_schema, picture, place, table_metadata
from orchestration.publishing.duckdb_copy import differences, publish
from orchestration.publishing.manifest import Layout, read_manifest
from orchestration.storage.warehouse import connect, exclusive, open_database
from orchestration.visualization import charts
from orchestration.visualization.mart_charts import PLOTS, TABLES
from settings import Settings

PUBLISHED_COPY = dg.AssetKey("published_copy")


def mart_keys(manifest: Mapping[str, Any]) -> list[dg.AssetKey]:
    """Return the asset keys of the marts, sorted by name."""
    nodes = manifest["nodes"].values()
    return sorted(
        dg.AssetKey(["marts", node["name"]])
        for node in nodes
        if node["resource_type"] == "model" and node["schema"] == "marts"
    )


def mart_comments(manifest: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Table and column descriptions of the marts, in the form that ``publish`` takes."""
    made = {mart.name: {"": mart.description, **mart.spoken} for mart in MADE_MARTS.values()}
    return made | {
        node["name"]: {"": node["description"]}
        | {column["name"]: column["description"] for column in node["columns"].values()}
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] == "marts"
    }


def mart_layouts(manifest: Mapping[str, Any]) -> dict[str, Layout]:
    """How marts lie in the published copy and its Parquet files, where their ``meta: published`` says so."""
    told = {
        node["name"]: node["config"]["meta"]["published"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] == "marts" and "published" in node["config"]["meta"]
    }
    return {name: Layout(tuple(layout.get("sorted_by", ())), layout.get("by_year_of")) for name, layout in told.items()}


def _inherited_version(context: dg.AssetExecutionContext, key: dg.AssetKey, known: dict[dg.AssetKey, str]) -> str:
    """Return the version of a view: its own SQL and the versions of what it reads. No row is read."""
    node = context.assets_def.specs_by_key[key]
    parts = [node.code_version or ""]
    for dep in sorted(node.deps, key=lambda dep: dep.asset_key):
        version = known.get(dep.asset_key)
        if version is None:
            event = context.instance.get_latest_materialization_event(dep.asset_key)
            found = event.asset_materialization if event else None
            version = (found.tags or {}).get("dagster/data_version", "") if found else ""
        parts.append(version)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _model_nodes(manifest: Mapping[str, Any]) -> dict[dg.AssetKey, Mapping[str, Any]]:
    return {
        dg.AssetKey([node["schema"], node["name"]]): node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }


def _lineage_metadata(
    node: Mapping[str, Any], target: Path, schema: MappingSchema, log: Callable[[str], None]
) -> dict[str, dg.TableColumnLineage]:
    relation = f"{node['schema']}.{node['name']}"
    compiled = target / "compiled" / node["package_name"] / node["original_file_path"]
    try:
        found = without(column_lineage(compiled.read_text(), schema), relation)
    except (OSError, SqlglotError) as error:
        log(f"no column lineage of {relation}: {error}")
        return {}
    deps = {
        column: [
            dg.TableColumnDep(asset_key=dg.AssetKey(table.split(".")), column_name=name) for table, name in sources
        ]
        for column, sources in found.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)}


def warehouse_models(project: Dbt) -> dg.AssetsDefinition:
    """All dbt models as one operation: dbt orders them, Dagster shows them one by one."""
    nodes = _model_nodes(project.manifest)

    @dbt_assets(
        manifest=project.manifest,
        project=project.project,
        name="dbt_models",
        dagster_dbt_translator=project.translator,
    )
    def dbt_models(
        context: dg.AssetExecutionContext, dbt: dg.ResourceParam[Dbt], settings: dg.ResourceParam[Settings]
    ) -> Iterator[Any]:
        events: list[Any] = []
        failure: DbtBuildFailed | None = None
        built: dict[dg.AssetKey, dg.MaterializeResult] = {}
        with exclusive(settings, tell=context.log.info):
            try:
                events.extend(dbt.build(context))
            except DbtBuildFailed as error:
                # What dbt did build is reported all the same, or a rerun would not know of it.
                failure = error
            with closing(open_database(settings, settings.warehouse)) as con:
                schema = warehouse_schema(con)
                for event in events:
                    if isinstance(event, dg.Output):
                        key = context.asset_key_for_output(event.output_name)
                        node = nodes[key]
                        spoken = {column["name"]: column["description"] for column in node["columns"].values()}
                        if node["config"]["materialized"] == "view":
                            done = {other: _version(result) for other, result in built.items()}
                            version = _inherited_version(context, key, done)
                            metadata = {"dagster/column_schema": column_schema(con, ".".join(key.path), spoken)}
                        else:
                            table, metadata = table_metadata(con, ".".join(key.path), descriptions=spoken)
                            version = table.digest
                            metadata |= {
                                name: picture(draw(drawn))
                                for name, (query, draw) in PLOTS.get(key.path[-1], {}).items()
                                if not (drawn := con.sql(query).pl()).is_empty()
                            }
                            metadata |= {
                                name: dg.MetadataValue.md(charts.markdown_table(con.sql(query).pl(), 100))
                                for name, query in TABLES.get(key.path[-1], {}).items()
                            }
                        metadata |= _lineage_metadata(node, settings.dbt_target, schema, context.log.info)
                        built[key] = dg.MaterializeResult(
                            asset_key=key,
                            metadata={**event.metadata, **metadata},
                            data_version=dg.DataVersion(version),
                        )
        for event in events:
            yield built[context.asset_key_for_output(event.output_name)] if isinstance(event, dg.Output) else event
        if failure is not None:
            raise dg.Failure(description=str(failure), allow_retries=False) from failure

    return dbt_models


def _version(result: dg.MaterializeResult) -> str:
    assert result.data_version is not None
    return result.data_version.value


def published_copy(manifest: Mapping[str, Any]) -> dg.AssetsDefinition:
    """Define the asset of the published copy, which follows every mart."""
    marts = [*mart_keys(manifest), *MADE_KEYS]

    @dg.asset(
        key=PUBLISHED_COPY,
        deps=marts,
        group_name="marts",
        owners=OWNERS,
        kinds={"duckdb"},
        code_version=code_version(
            "orchestration/publishing",
            "orchestration/storage/warehouse.py",
            "orchestration/queries",
            "orchestration/analytics/python_marts.py",
            "dbt_project/analyses",
        ),
        automation_condition=ON_SETTLED_CHANGE,
        description=(
            "The DuckDB file that analysts open read-only, with every mart and its comments, and the marts as Parquet"
            " beside it. It is replaced whole by one rename after the marts' checks have passed, so a reader never"
            " meets a half-written file; the last few stay under their versions. A file that another tool has changed"
            " is made again."
        ),
    )
    def copy(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        upstream_checks: dg.ResourceParam[UpstreamChecks],
    ) -> dg.MaterializeResult:
        upstream_checks.require_passed(context)
        before = read_manifest(settings)
        with connect(settings, tell=context.log.info) as con:
            changed = differences(settings) if before is not None else []
            if changed:
                context.log.warning(f"not as it was published, and made again: {', '.join(changed)}")
            publication = publish(con, settings, comments=mart_comments(manifest), layouts=mart_layouts(manifest))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(publication.version),
            metadata={
                "file": place(settings, settings.published),
                "bytes": settings.published.stat().st_size,
                "tables": dg.MetadataValue.md(
                    "| table | rows | version |\n|---|---:|---|\n"
                    + "\n".join(f"| marts.{n} | {v.rows:,} | {v.digest} |" for n, v in publication.tables.items())
                ),
                "kept": ", ".join(publication.kept),
                "mended": ", ".join(changed) or "nothing",
                "replaced": before.version if before is not None and publication.changed else "nothing",
                "open_with": f'duckdb -readonly "{place(settings, settings.published)}"',
            },
        )

    return copy
