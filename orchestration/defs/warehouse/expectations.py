"""Great Expectations suites as blocking asset checks, one check a table, its failing rows in the check's metadata."""

from collections.abc import Iterator, Sequence

import dagster as dg

from orchestration.storage.warehouse import connect
from settings import Settings

CHECK_NAME = "expectations"


def expectation_checks(name: str, relations: Sequence[str]) -> dg.AssetChecksDefinition:
    """Define checks of the tables ``schema.table`` by their suites; a blocking failure stops what is downstream."""
    keys = {dg.AssetKey(relation.split(".")): relation for relation in relations}

    @dg.multi_asset_check(
        name=name,
        specs=[
            dg.AssetCheckSpec(
                CHECK_NAME,
                asset=key,
                blocking=True,
                description=f"The Great Expectations suite of `{relation}`; every row is judged.",
            )
            for key, relation in keys.items()
        ],
        can_subset=True,
    )
    def checks(
        context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.AssetCheckResult]:
        from orchestration.quality.runner import failing_rows_markdown, run_suites
        from orchestration.quality.suites import SUITES

        asked = {check.asset_key for check in context.selected_asset_check_keys}
        wanted = [key for key in keys if key in asked]
        with connect(settings, tell=context.log.info) as con:
            results = run_suites(con, [SUITES[keys[key]] for key in wanted])
        for key, result in zip(wanted, results, strict=True):
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=CHECK_NAME,
                passed=result.passed,
                # A warning is shown and stops nothing; an error stops what is downstream.
                severity=dg.AssetCheckSeverity.ERROR if result.blocking_failed else dg.AssetCheckSeverity.WARN,
                metadata={
                    "rows_judged": result.rows,
                    "expectations": len(result.outcomes),
                    "failed": sum(not outcome.passed for outcome in result.outcomes),
                    "result": dg.MetadataValue.md(failing_rows_markdown(result)),
                },
            )

    return checks
