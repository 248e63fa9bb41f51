"""dbt inside this process: what is asked of it is built, and its results come back as Dagster's events.

``DbtCliResource`` starts dbt anew each time, and once more for its version: 7 s before the first model on two cores,
for every layer of a wave. Here dbt is imported and the project read once a process.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject
from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest
    from dbt_common.events.base_types import EventMsg

#: A unit test holds a model's SQL against rows of its own, which no new data changes: `make test` runs them.
_DATA_ALONE = ("--exclude-resource-type", "unit_test")

#: dbt's own lines would stand between ours; what it says of each model and test is told below.
_QUIET = ("--quiet", "--log-level", "none")


class DbtBuildFailed(Exception):
    """What dbt could not build, one line a model or test."""


class Dbt:
    """``dbt build`` for the assets and checks that a run selects."""

    def __init__(
        self,
        project: DbtProject,
        manifest: Mapping[str, Any],
        translator: DagsterDbtTranslator,
        parsed: "Manifest | None" = None,
    ) -> None:
        self.project = project
        self.manifest = manifest
        self.translator = translator
        self._parsed = parsed

    def build(self, context: dg.AssetExecutionContext) -> Iterator[Any]:
        """Build what ``context`` selects; yields an output a model and a result a check.

        Raises ``DbtBuildFailed`` after the last event, so that what was built is known of all the same.
        """
        results: list[DbtCoreCliEventMessage] = []

        def remember(message: "EventMsg") -> None:
            from dbt_common.events.functions import msg_to_dict

            if message.info.name in ("LogModelResult", "LogTestResult"):
                results.append(DbtCoreCliEventMessage(raw_event=msg_to_dict(message), event_history_metadata={}))
                _tell(context, results[-1].raw_event["data"])

        done = self.invoke(self._selection(context), remember)
        for result in results:
            yield from result.to_default_asset_events(
                manifest=self.manifest,
                dagster_dbt_translator=self.translator,
                context=context,
                target_path=self.project.target_path,
                project=self.project,
            )
        if not done.success:
            raise DbtBuildFailed(failures(done))

    def _selection(self, context: dg.AssetExecutionContext) -> list[str]:
        """dbt's switches for a part of the models: those models, their own tests, and no others.

        Left alone, dbt would run every test that reads one of the models, also those of a model that the wave is yet to
        build, which would be judged against its new upstream and fail.
        """
        if not context.is_subset:
            return []
        specs = context.assets_def.specs_by_key
        models = {specs[key].metadata[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for key in context.selected_asset_keys}
        checks = {
            context.assets_def.get_spec_for_check_key(key).metadata[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY]
            for key in context.selected_asset_check_keys
        }
        chosen = sorted("fqn:" + ".".join(self.manifest["nodes"][name]["fqn"]) for name in models | checks)
        return ["--indirect-selection", "empty", "--select", *chosen]

    def invoke(self, selection: Sequence[str], remember: "Callable[[EventMsg], None]") -> "dbtRunnerResult":
        """``dbt build`` with these switches, each event told to ``remember``; the project as it was read first."""
        from dbt.cli.main import dbtRunner

        folder = Path(self.project.project_dir)
        if self._parsed is None:
            self._parsed = parse(folder)
        runner = dbtRunner(manifest=self._parsed, callbacks=[remember])
        return runner.invoke([*_QUIET, "build", *_DATA_ALONE, *selection, *_places(folder)])


def parse(project: Path, *switches: str) -> "Manifest":
    """Read the project, or what is new in it. Raises ``DbtBuildFailed``."""
    from dbt.cli.main import dbtRunner

    read = dbtRunner().invoke([*_QUIET, "parse", *_places(project), *switches])
    if not read.success:
        raise DbtBuildFailed(failures(read))
    return read.result  # type: ignore[return-value]


def _places(project: Path) -> list[str]:
    return ["--project-dir", os.fspath(project), "--profiles-dir", os.fspath(project)]


def _tell(context: dg.AssetExecutionContext, data: Mapping[str, Any]) -> None:
    """One line of the run's log a model, and one a test that failed."""
    node = data["node_info"]
    relation = node.get("node_relation") or {}
    if node["resource_type"] == "model" and data["status"] not in ("error", "skipped"):
        name = f"{relation.get('schema')}/{relation.get('alias')}"
        context.log.info(f"{name:<44}{data['execution_time']:>8.1f} s")
    elif data["status"] in ("error", "fail", "warn"):
        context.log.warning(f"{data['status']}: {node['node_name']}")


def failures(done: "dbtRunnerResult") -> str:
    """Return what went wrong, one line per model or test."""
    if done.exception is not None:
        return str(done.exception)
    results = getattr(done.result, "results", [])
    return "\n".join(
        f"{result.node.name}: {(result.message or result.status).strip()}"
        for result in results
        if result.status in ("error", "fail", "runtime error")
    )
