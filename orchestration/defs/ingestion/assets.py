"""Upstream files, observed by content; the `raw` tables read from them; and the rows that were refused."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import duckdb
from dagster._core.storage.tags import SCHEDULE_NAME_TAG

from models.data.movielens import EDITIONS
from orchestration.errors import SourceError
from orchestration.ingestion import app_store as app
from orchestration.ingestion import imdb, movielens
from orchestration.ingestion.file_inspection import file_digest
from orchestration.ingestion.http_download import provenance
from orchestration.ingestion.load_report import LoadReport
from orchestration.ingestion.raw_tables import APP_TABLES, MOVIELENS_TABLES, TABLES
from orchestration.ingestion.source_resolver import locate_dump, locate_edition
from orchestration.lib.code_versions import code_version
from orchestration.lib.dbt_project import ON_CHANGE, OWNERS
from orchestration.lib.metadata import materialized, table_metadata
from orchestration.storage.warehouse import columns_of, connect
from orchestration.visualization import charts
from settings import IMDB_DUMPS, Settings

UPSTREAM_MOVIELENS = dg.AssetKey(["upstream", "movielens"])
UPSTREAM_APP = dg.AssetKey(["upstream", "app_store"])
RAW_CODE = code_version("orchestration/ingestion", "models/data/movielens.py", "bento/store/tables.py")
#: Tables with users in them, from which who asked to be forgotten is taken out again.
_WITH_USERS = ("ml_ratings", "ml_tags", "ml_users")

RAW_TABLES = tuple(TABLES)


def upstream_dump(dump: str) -> dg.AssetKey:
    """Return the asset key of one IMDb dump as published."""
    return dg.AssetKey(["upstream", imdb.table_of(dump).name])


def raw_key(table: str) -> dg.AssetKey:
    """Return the asset key of a raw table."""
    return dg.AssetKey(["raw", table])


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a ``SourceError`` into a step failure with its message alone."""
    try:
        yield
    except SourceError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def upstream_spec(key: dg.AssetKey, description: str) -> dg.AssetSpec:
    """Return the asset spec of files as published."""
    return dg.AssetSpec(key, group_name="upstream", owners=OWNERS, kinds={"file"}, description=description)


def observation(key: dg.AssetKey, version: str, metadata: Mapping[str, Any] | None = None) -> dg.ObserveResult:
    """Return the observation of an upstream asset at this moment.

    Dagster's freshness checks read the time of an observation from this one metadata entry. Here it is the time of the
    look, not that of the last change upstream.
    """
    looked_at = dg.MetadataValue.timestamp(datetime.now(UTC))
    return dg.ObserveResult(
        asset_key=key,
        data_version=dg.DataVersion(version),
        metadata={**(metadata or {}), "dagster/last_updated_timestamp": looked_at},
    )


def _for_this_look(context: dg.AssetExecutionContext, settings: Settings) -> Settings:
    """Return the settings of this look: a scheduled one always asks upstream, others accept a recent download."""
    scheduled = SCHEDULE_NAME_TAG in context.run.tags
    return settings.model_copy(update={"imdb_max_age_days": 0.0}) if scheduled else settings


def raw_spec(name: str, description: str, *, deps: list[dg.AssetKey], kinds: set[str]) -> dg.AssetSpec:
    """Return the spec of a raw table that is one of several made at once."""
    return dg.AssetSpec(
        raw_key(name),
        deps=deps,
        group_name="raw",
        owners=OWNERS,
        kinds=kinds,
        code_version=RAW_CODE,
        automation_condition=ON_CHANGE,
        description=description,
    )


@dg.multi_observable_source_asset(
    name="movielens_files",
    specs=[
        upstream_spec(UPSTREAM_MOVIELENS, "The files of the MovieLens edition; the version is their content's hash.")
    ],
)
def movielens_files(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.ObserveResult]:
    """Find (or fetch, or generate) the edition and take the version of its files."""
    with user_errors():
        files = locate_edition(_for_this_look(context, settings))
        version = movielens.edition_digest(files)
    yield observation(
        UPSTREAM_MOVIELENS,
        version,
        {
            "edition": files.edition,
            "folder": str(files.folder),
            "origin": files.origin,
            **(provenance(files.archive) if files.archive else {}),
        },
    )


@dg.multi_observable_source_asset(
    name="imdb_files",
    specs=[
        upstream_spec(upstream_dump(dump), f"IMDb's `{dump}.tsv.gz` as published; the version is its content's hash.")
        for dump in IMDB_DUMPS
    ],
    can_subset=True,
)
def imdb_files(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> Iterator[dg.ObserveResult]:
    """Find (or fetch, or generate) each dump that is asked for and take its version."""
    settings = _for_this_look(context, settings)
    for dump in IMDB_DUMPS:
        key = upstream_dump(dump)
        if key not in context.op_execution_context.selected_asset_keys:
            continue
        if dump not in settings.imdb_dumps:
            yield observation(key, "not-asked-for", {"state": "not asked for"})
            continue
        with user_errors():
            path = locate_dump(settings, dump)
            version = file_digest(path)
        yield observation(key, version, {"file": str(path), "bytes": path.stat().st_size, **provenance(path)})


@dg.multi_observable_source_asset(
    name="app_store",
    specs=[
        dg.AssetSpec(
            UPSTREAM_APP,
            group_name="upstream",
            owners=OWNERS,
            kinds={"sqlite"},
            description=(
                "What came through the API and what it answered; the version is the last event, how many people are"
                " forgotten, and the last answer."
            ),
        )
    ],
)
def app_store(settings: dg.ResourceParam[Settings]) -> Iterator[dg.ObserveResult]:
    """Take the version of the app's store."""
    with user_errors():
        version = app.app_version(settings.app_store)
    yield observation(UPSTREAM_APP, version)


@dg.multi_asset(
    name="app_tables",
    specs=[raw_spec(table.name, table.grain, deps=[UPSTREAM_APP], kinds={"duckdb", "sqlite"}) for table in APP_TABLES],
)
def app_tables(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.MaterializeResult]:
    """Load the app's users, ratings, events, served lists and erasure requests; empty where there is no store."""
    with user_errors(), connect(settings, tell=context.log.info) as con:
        app.ingest_app(con, settings.app_store, settings.movielens)
        results = []
        for table in APP_TABLES:
            spoken = {column.name: column.description for column in table.columns}
            version, metadata = table_metadata(con, f"raw.{table.name}", descriptions=spoken)
            results.append(materialized(version, metadata, raw_key(table.name)))
    yield from results


def _report_metadata(report: LoadReport) -> dict[str, object]:
    found: dict[str, object] = {
        "file": report.file or "none: not asked for",
        "file_rows": report.file_rows,
        "quarantined_rows": report.quarantined_rows,
    }
    if report.new_columns:
        found["new_columns"] = ", ".join(report.new_columns)
    if report.reasons:
        found["quarantine_reasons"] = dg.MetadataValue.md(
            "| reason | rows |\n|---|---|\n" + "\n".join(f"| {why} | {rows} |" for why, rows in report.reasons.items())
        )
    return found


def loaded(
    context: dg.AssetExecutionContext, con: duckdb.DuckDBPyConnection, report: LoadReport, **said: str
) -> dg.MaterializeResult:
    """Return the materialization of a raw table filled from a file, with the load's account.

    said is further metadata.
    """
    if report.new_columns:
        names = ", ".join(report.new_columns)
        context.log.warning(f"{report.file} has new columns ({names}): they are loaded as text, and nothing reads them")
    spoken = {column.name: column.description for column in TABLES[report.table].columns}
    version, metadata = table_metadata(con, f"raw.{report.table}", descriptions=spoken)
    return materialized(version, {**said, **_report_metadata(report), **metadata}, raw_key(report.table))


@dg.multi_asset(
    name="movielens_tables",
    specs=[
        raw_spec(
            table.name,
            table.grain,
            deps=[UPSTREAM_MOVIELENS, *([raw_key("ml_suppressed")] if table.name in _WITH_USERS else [])],
            kinds={"duckdb", "csv"},
        )
        for table in MOVIELENS_TABLES
    ],
)
def movielens_tables(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.MaterializeResult]:
    """Load the seven tables of the edition from its files with DuckDB; broken rows go to quarantine."""
    with user_errors():
        files = locate_edition(settings)
        with connect(settings, tell=context.log.info) as con:
            reports = movielens.ingest_movielens(con, files)
            if left_out := app.leave_out_forgotten(con):
                context.log.info(f"left out {left_out:,} rows of users who asked to be forgotten")
            results = [loaded(context, con, report) for report in reports]
    yield from results


def _imdb_asset(dump: str) -> dg.AssetsDefinition:
    table = imdb.table_of(dump)

    @dg.asset(
        key=raw_key(table.name),
        deps=[upstream_dump(dump)],
        group_name="raw",
        owners=OWNERS,
        kinds={"duckdb", "tsv"},
        code_version=RAW_CODE,
        automation_condition=ON_CHANGE,
        description=table.grain,
    )
    def imdb_table(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
        with user_errors():
            path = locate_dump(settings, dump, ask=False) if dump in settings.imdb_dumps else None
            with connect(settings, tell=context.log.info) as con:
                return loaded(context, con, imdb.ingest_imdb(con, dump, path))

    return imdb_table


imdb_tables = [_imdb_asset(dump) for dump in IMDB_DUMPS]


@dg.multi_asset(
    name="ingest_ledgers",
    specs=[
        raw_spec(
            name,
            description,
            # Who asked to be forgotten may have left a refused row and nothing else.
            deps=[raw_key(table) for table in (*RAW_TABLES, "ml_suppressed")],
            kinds={"duckdb"},
        )
        for name, description in (
            ("quarantine", "One row a refused row of a file: its line, the reason, and the text as it stood."),
            ("loads", "One row a raw table and file of it: the rows of both, and the file's own time."),
        )
    ],
)
def ingest_ledgers(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.MaterializeResult]:
    """Report what the loads wrote next to the tables: refused rows, and the account of each file."""
    with connect(settings, tell=context.log.info) as con:
        ledgers = {name: table_metadata(con, f"raw.{name}") for name in ("quarantine", "loads")}
        counts = con.sql(
            "SELECT table_name, reason, count(*) AS rows FROM raw.quarantine GROUP BY ALL ORDER BY ALL"
        ).pl()
        loads = con.sql("SELECT * EXCLUDE (sha256) FROM raw.loads ORDER BY table_name, file").pl()
    shown = {"quarantine": {"by_reason": counts}, "loads": {"by_table": loads}}
    for name, (version, metadata) in ledgers.items():
        tables = {key: dg.MetadataValue.md(charts.markdown_table(frame, 100)) for key, frame in shown[name].items()}
        yield materialized(version, {**metadata, **tables}, raw_key(name))


@dg.asset_check(
    asset=raw_key("quarantine"),
    blocking=True,
    description="Every data row of every file is either in its raw table or in quarantine: nothing is lost.",
)
def counts_add_up(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Compare rows in the file, in the table and in quarantine, for each load."""
    with connect(settings, tell=context.log.info) as con:
        loads = con.sql(
            """
            SELECT l.table_name, l.file, l.file_rows, l.loaded_rows, count(q.table_name) AS quarantined
            FROM raw.loads AS l LEFT JOIN raw.quarantine AS q USING (table_name, file)
            GROUP BY ALL ORDER BY ALL
            """
        ).pl()
    lost = loads.filter(loads["file_rows"] != loads["loaded_rows"] + loads["quarantined"])
    return dg.AssetCheckResult(
        passed=lost.is_empty(),
        metadata={"loads": dg.MetadataValue.md(charts.markdown_table(loads)), "files": len(loads)},
    )


@dg.multi_asset_check(
    name="raw_columns",
    specs=[
        dg.AssetCheckSpec(
            "columns",
            asset=raw_key(table),
            description="The file has its declared columns and no others; a new one is loaded as text and named here.",
        )
        for table in RAW_TABLES
    ],
    can_subset=True,
)
def columns_as_declared(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.AssetCheckResult]:
    """Compare each table's columns with the declared ones. A missing or retyped one has stopped the load before."""
    asked = {check.asset_key for check in context.selected_asset_check_keys}
    with connect(settings, tell=context.log.info) as con:
        found = {name: columns_of(con, f"raw.{name}") for name in RAW_TABLES if raw_key(name) in asked}
    for name, columns in found.items():
        declared = [(column.name, column.type) for column in TABLES[name].columns]
        new = [column for column in columns if column not in declared]
        missing = [column for column in declared if column not in columns]
        yield dg.AssetCheckResult(
            asset_key=raw_key(name),
            check_name="columns",
            passed=columns == declared,
            # What lacks a column is not the table that everything reads; a new column changes nothing that is read.
            severity=dg.AssetCheckSeverity.ERROR if missing else dg.AssetCheckSeverity.WARN,
            metadata={
                "new_columns": ", ".join(column for column, _ in new) or "none",
                "missing_columns": ", ".join(column for column, _ in missing) or "none",
            },
        )


@dg.asset_check(
    asset=raw_key("ml_ratings"),
    additional_deps=[raw_key(table) for table in ("ml_movies", "ml_tags", "ml_genome_scores", "ml_genome_tags")],
    description="The edition's files hold as many rows and users as GroupLens publishes; broken rows count, too.",
)
def published_counts(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Compare rows in the files and distinct raters with the counts that are known of the edition."""
    published = EDITIONS[settings.movielens].published
    if published is None:
        skipped = f"{settings.movielens} has no fixed counts: it is generated here or grows"
        return dg.AssetCheckResult(passed=True, description=skipped, metadata={"skipped": skipped})
    with connect(settings, tell=context.log.info) as con:
        app.create_tables(con)
        # Who asked to be forgotten is in the files and not in the table.
        [(found_users,)] = con.execute(
            "SELECT (SELECT count(DISTINCT userId) FROM raw.ml_ratings) + (SELECT count(*) FROM raw.ml_suppressed)"
        ).fetchall()
        rows = dict(con.execute("SELECT table_name, file_rows FROM raw.loads").fetchall())
    counts = {
        "ratings": (published.ratings, rows["ml_ratings"]),
        "users": (published.users, found_users),
        "movies": (published.movies, rows["ml_movies"]),
        "tags": (published.tags, rows["ml_tags"]),
        "genome_scores": (published.genome_scores, rows["ml_genome_scores"]),
        "genome_tags": (published.genome_tags, rows["ml_genome_tags"]),
    }
    stated = {name: pair for name, pair in counts.items() if pair[0] is not None}
    lines = [f"| {name} | {want:,} | {have:,} |" for name, (want, have) in stated.items()]
    return dg.AssetCheckResult(
        passed=all(want == have for want, have in stated.values()),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"counts": dg.MetadataValue.md("\n".join(["| | published | found |", "|---|---:|---:|", *lines]))},
    )
