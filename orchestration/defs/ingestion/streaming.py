"""The streaming catalogues: their files, observed by content, and the raw tables read from them."""

from collections.abc import Iterator

import dagster as dg

from orchestration.defs.ingestion.assets import loaded, observation, raw_spec, upstream_spec, user_errors
from orchestration.ingestion.load_report import LoadReport
from orchestration.ingestion.raw_tables import STREAMING_TABLES
from orchestration.ingestion.source_resolver import locate_streaming
from orchestration.ingestion.streaming import (
    absence,
    catalogue_files,
    ingest_streaming,
    rating_files,
    streaming_digest,
)
from orchestration.storage.warehouse import connect
from settings import Settings

UPSTREAM_STREAMING = dg.AssetKey(["upstream", "streaming"])


@dg.multi_observable_source_asset(
    name="streaming_files",
    specs=[
        upstream_spec(
            UPSTREAM_STREAMING,
            "The streaming catalogues and their ratings; the version is their content's hash. They are optional.",
        )
    ],
)
def streaming_files(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.ObserveResult]:
    """Find (or generate) the files and take their version; say so where there are none."""
    with user_errors():
        folder = locate_streaming(settings)
        version = streaming_digest(folder)
    absent = absence(folder)
    if folder is None or absent is not None:
        if settings.streaming_dir is not None:
            context.log.warning(str(absent))
        yield observation(UPSTREAM_STREAMING, version, {"state": str(absent)})
        return
    yield observation(
        UPSTREAM_STREAMING,
        version,
        {
            "folder": str(folder),
            "catalogues": ", ".join(path.name for path in catalogue_files(folder).values()),
            "files_of_ratings": len(rating_files(folder)),
        },
    )


@dg.multi_asset(
    name="streaming_tables",
    specs=[
        raw_spec(table.name, table.grain, deps=[UPSTREAM_STREAMING], kinds={"duckdb", "csv"})
        for table in STREAMING_TABLES
    ],
)
def streaming_tables(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.MaterializeResult]:
    """Read catalogues and ratings by DuckDB; broken rows go to quarantine. What has no file is empty and says so."""
    with user_errors():
        folder = locate_streaming(settings)
        absent = absence(folder)
        if absent is not None:
            context.log.info(f"streaming catalogues {absent}")
        with connect(settings, tell=context.log.info) as con:
            by_table: dict[str, list[LoadReport]] = {}
            for report in ingest_streaming(con, folder):
                by_table.setdefault(report.table, []).append(report)
            results = []
            for reports in by_table.values():
                report = merged(reports)
                state = absent or (f"skipped: its file is not in {folder}" if report.file is None else "loaded")
                results.append(loaded(context, con, report, state=state))
    yield from results


def merged(reports: list[LoadReport]) -> LoadReport:
    """One account of a table that is read from several files."""
    if len(reports) == 1:
        return reports[0]
    reasons: dict[str, int] = {}
    for report in reports:
        for reason, rows in report.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + rows
    return LoadReport(
        reports[0].table,
        ", ".join(str(report.file) for report in reports),
        sum(report.file_rows for report in reports),
        sum(report.loaded_rows for report in reports),
        sum(report.quarantined_rows for report in reports),
        reasons,
    )
