"""The wave on a small graph of its own: real assets on a real Dagster instance in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
import pytest

from orchestration.lib.check_status import UpstreamChecks
from orchestration.pipeline.incremental import Observed, Rebuilt, Result, observe, rebuild
from orchestration.pipeline.summary import story

DUMP, RAW, CLEAN, MART, OTHER = (dg.AssetKey(name) for name in ("dump", "raw", "clean", "mart", "other"))


@dataclass
class World:
    """dump -> raw -> clean -> mart, and other beside them. ``clean`` keeps only the first letter of raw."""

    content: str = "apple"
    built: list[str] = field(default_factory=list)

    def definitions(self) -> dg.Definitions:
        """Return the graph over the content as it is at each materialization."""

        @dg.multi_observable_source_asset(specs=[dg.AssetSpec(DUMP)])
        def dumps() -> Iterator[dg.ObserveResult]:
            yield dg.ObserveResult(asset_key=DUMP, data_version=dg.DataVersion(self.content))

        def table(name: str, deps: list[dg.AssetKey], letters: int) -> dg.AssetsDefinition:
            @dg.asset(name=name, deps=deps, code_version="1")
            def made() -> dg.MaterializeResult:
                self.built.append(name)
                return dg.MaterializeResult(data_version=dg.DataVersion(self.content[:letters]))

            return made

        return dg.Definitions(
            assets=[
                dumps,
                table("raw", [DUMP], 100),
                table("clean", [RAW], 1),
                table("mart", [CLEAN], 1),
                table("other", [], 0),
            ],
            jobs=[dg.define_asset_job("observe_upstream", selection=dg.AssetSelection.assets(DUMP))],
            executor=dg.in_process_executor,
        )

    def update(self, instance: dg.DagsterInstance) -> tuple[Observed, Result]:
        """One observe-and-rebuild."""
        self.built.clear()
        defs = self.definitions()
        observed = observe(defs, instance)
        return observed, rebuild(defs, instance, missing_artifact=lambda _: False, tell=lambda _: None)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_the_first_wave_builds_everything_and_needs_no_story(instance: dg.DagsterInstance) -> None:
    observed, result = World().update(instance)
    assert set(result.rebuilt) == {RAW, CLEAN, MART, OTHER}
    assert observed.changed == (DUMP,)
    assert story(observed, result) == []


def test_a_second_wave_builds_nothing(instance: dg.DagsterInstance) -> None:
    world = World()
    world.update(instance)
    observed, result = world.update(instance)
    assert world.built == []
    assert result.rebuilt == {}
    assert set(result.spared) == {RAW, CLEAN, MART, OTHER}
    assert observed.changed == ()


def test_the_wave_stops_where_a_table_comes_out_the_same(instance: dg.DagsterInstance) -> None:
    world = World()
    world.update(instance)
    world.content = "avocado"
    observed, result = world.update(instance)
    assert world.built == ["raw", "clean"]
    assert result.rebuilt[RAW] == Rebuilt("dump changed", changed=True)
    assert result.rebuilt[CLEAN] == Rebuilt("raw changed", changed=False)
    assert result.spared == {MART: "clean came out the same", OTHER: "nothing that it follows changed"}
    assert observed.changed == (DUMP,)


def test_a_change_that_matters_reaches_the_end_of_its_cone_and_nothing_else(instance: dg.DagsterInstance) -> None:
    world = World()
    world.update(instance)
    world.content = "banana"
    _, result = world.update(instance)
    assert world.built == ["raw", "clean", "mart"]
    assert all(how.changed for how in result.rebuilt.values())
    assert result.spared == {OTHER: "nothing that it follows changed"}


def test_the_reasons_stand_among_the_events_of_each_asset(instance: dg.DagsterInstance) -> None:
    world = World()
    world.update(instance)
    world.content = "avocado"
    world.update(instance)

    def said(key: dg.AssetKey) -> str:
        observation = instance.fetch_observations(key, limit=1).records[0].asset_observation
        assert observation is not None
        return str(observation.metadata["wave"].value)

    assert said(CLEAN) == "rebuilt: raw changed"
    assert said(MART) == "spared: clean came out the same"


def test_the_notes_in_the_ui_are_not_taken_for_a_change(instance: dg.DagsterInstance) -> None:
    world = World()
    world.update(instance)
    world.content = "avocado"
    world.update(instance)
    _, result = world.update(instance)
    assert result.rebuilt == {}


def test_the_story_names_what_changed_was_rebuilt_and_was_spared(instance: dg.DagsterInstance) -> None:
    world = World()
    world.update(instance)
    world.content = "avocado"
    text = "\n".join(story(*world.update(instance)))
    assert "changed upstream: dump; as before: 0 of 1 files" in text
    assert "raw    changed   because dump changed" in text
    assert "clean  the same  because raw changed" in text
    assert "clean came out the same:\n      mart" in text


def test_a_failed_step_ends_the_wave_with_its_message(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def broken() -> None:
        raise dg.Failure(description="the file ratings.csv is missing")

    result = rebuild(dg.Definitions(assets=[broken]), instance, missing_artifact=lambda _: False, tell=lambda _: None)
    assert result.failure == "the file ratings.csv is missing"
    assert result.spared == {}


def test_a_blocking_check_that_fails_says_why(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def served() -> None: ...

    @dg.asset_check(asset=served, blocking=True)
    def answers() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description="the push lacks negative_share")

    defs = dg.Definitions(assets=[served], asset_checks=[answers])
    result = rebuild(defs, instance, missing_artifact=lambda _: False, tell=lambda _: None)
    assert result.failure == "blocking checks failed: served: answers (the push lacks negative_share)"


def judged_out_of_turn(times: int) -> tuple[dg.Definitions, list[str]]:
    """Return a table whose blocking check precedes it in the first ``times`` builds, and the list of what was built."""
    built: list[str] = []

    @dg.multi_asset(
        specs=[dg.AssetSpec(CLEAN, code_version="1")],
        check_specs=[dg.AssetCheckSpec("fits", asset=CLEAN, blocking=True)],
    )
    def cleaned() -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        built.append("clean")
        check = dg.AssetCheckResult(asset_key=CLEAN, check_name="fits", passed=True)
        table = dg.MaterializeResult(asset_key=CLEAN, data_version=dg.DataVersion("a"))
        yield from (check, table) if len(built) <= times else (table, check)

    return dg.Definitions(assets=[cleaned], executor=dg.in_process_executor), built


def test_an_asset_whose_check_came_before_it_is_built_once_more(instance: dg.DagsterInstance) -> None:
    defs, built = judged_out_of_turn(1)
    result = rebuild(defs, instance, missing_artifact=lambda _: False, tell=lambda _: None)
    assert result.failure is None
    assert built == ["clean", "clean"]
    assert result.rebuilt == {CLEAN: Rebuilt("never built", changed=True)}


def test_but_not_for_ever(instance: dg.DagsterInstance) -> None:
    defs, built = judged_out_of_turn(9)
    result = rebuild(defs, instance, missing_artifact=lambda _: False, tell=lambda _: None)
    assert result.failure == "still out of date after its rebuild: clean (its check fits has not judged this version)"
    assert built == ["clean", "clean"]


def test_what_refused_for_want_of_a_judgment_follows_when_it_has_come(instance: dg.DagsterInstance) -> None:
    defs, built = judged_out_of_turn(1)
    checked = UpstreamChecks({CLEAN: frozenset(), MART: frozenset({CLEAN})}, (dg.AssetCheckKey(CLEAN, "fits"),))

    @dg.asset(key=MART, deps=[CLEAN], code_version="1")
    def mart(context: dg.AssetExecutionContext) -> None:
        checked.require_passed(context)
        built.append("mart")

    both = dg.Definitions.merge(defs, dg.Definitions(assets=[mart]))
    result = rebuild(both, instance, missing_artifact=lambda _: False, tell=lambda _: None)
    assert result.failure is None
    assert built == ["clean", "clean", "mart"]


def test_what_refused_failed_data_ends_the_wave_with_the_name_of_the_check(instance: dg.DagsterInstance) -> None:
    checked = UpstreamChecks({CLEAN: frozenset(), MART: frozenset({CLEAN})}, (dg.AssetCheckKey(CLEAN, "fits"),))

    @dg.asset(key=CLEAN, code_version="1", check_specs=[dg.AssetCheckSpec("fits", asset=CLEAN)])
    def clean() -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        yield dg.MaterializeResult()
        yield dg.AssetCheckResult(check_name="fits", passed=False)

    @dg.asset(key=MART, deps=[CLEAN], code_version="1")
    def mart(context: dg.AssetExecutionContext) -> None:
        checked.require_passed(context)

    defs = dg.Definitions(assets=[clean, mart], executor=dg.in_process_executor)
    result = rebuild(defs, instance, missing_artifact=lambda _: False, tell=lambda _: None)
    assert result.failure is not None
    assert "mart is not built: clean: its check fits failed." in result.failure
