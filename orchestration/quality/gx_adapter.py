"""Asks Great Expectations about one frame. The only place that knows the library; importing it takes seconds."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestration.quality.expectations import SAME_TYPES, Rule

if TYPE_CHECKING:
    import pandas as pd

#: The library keeps its present context in one place for the whole process.
_ONE_AT_A_TIME = threading.Lock()

#: Failing rows kept of each rule: enough to see what is wrong, few enough to read.
FAILING_ROWS = 20


@dataclass(frozen=True)
class Verdict:
    """What Great Expectations said of one rule on one part."""

    passed: bool
    observed: str
    compared: int = 0
    unexpected: int = 0
    rowids: tuple[int, ...] = ()
    error: bool = False


def _whole_dataframe() -> Any:
    """Return a batch definition in a context of its own: a context keeps the frames it has seen while it lives."""
    gx = _great_expectations()
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    # The defaults make a folder for a report under /tmp, and draw a progress bar.
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars={"globally": False, "metric_calculations": False},
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("warehouse").add_dataframe_asset("table")
    return asset.add_batch_definition_whole_dataframe("whole")


def judge(frame: pd.DataFrame, rules: dict[int, Rule]) -> dict[int, Verdict]:
    """Great Expectations' verdict on each rule over one frame, by the rule's number."""
    with _ONE_AT_A_TIME:
        return _judge(frame, rules)


def _judge(frame: pd.DataFrame, rules: dict[int, Rule]) -> dict[int, Verdict]:
    gx = _great_expectations()
    batch = _whole_dataframe().get_batch({"dataframe": frame})
    verdicts: dict[int, Verdict] = {}
    expectations: dict[int, Any] = {}
    for number, rule in rules.items():
        try:
            expectations[number] = getattr(gx.expectations, rule.expectation)(**rule.arguments, meta={"rule": number})
        except (TypeError, ValueError) as error:
            verdicts[number] = Verdict(False, str(error), error=True)

    def validate(numbers: Iterable[int], detail: dict[str, Any]) -> dict[int, Verdict]:
        suite = gx.ExpectationSuite(name="suite", expectations=[expectations[number] for number in numbers])
        judged = batch.validate(suite, result_format=detail).results
        return {one.expectation_config.meta["rule"]: _verdict(one, rules) for one in judged}

    verdicts |= validate(expectations, {"result_format": "BOOLEAN_ONLY"})
    # Counts and rows cost half as much again, so they are asked for only where they will be shown.
    shown = [
        n for n in expectations if not verdicts[n].passed or rules[n].is_about_table or "mostly" in rules[n].kwargs
    ]
    if shown:
        verdicts |= validate(
            shown,
            {"result_format": "BASIC", "partial_unexpected_count": FAILING_ROWS, "include_unexpected_rows": True},
        )
    return verdicts


def _verdict(judged: Any, rules: dict[int, Rule]) -> Verdict:
    error = _error_of(judged.exception_info or {})
    if error:
        return Verdict(False, error, error=True)
    found = judged.result
    if "observed_value" in found:
        return Verdict(bool(judged.success), str(found["observed_value"]))
    if "unexpected_count" not in found:
        return Verdict(bool(judged.success), "")
    rule = rules[judged.expectation_config.meta["rule"]]
    rows = found.get("unexpected_rows")
    described = found["partial_unexpected_list"] if rule.expectation == SAME_TYPES else []
    return Verdict(
        bool(judged.success),
        ", ".join(f"{name} is {kind}" for name, kind in described),
        found["element_count"] - found.get("missing_count", 0),
        found["unexpected_count"],
        () if rows is None else tuple(int(rowid) for rowid in rows.index),
    )


def _error_of(info: dict[str, Any]) -> str:
    """Return the messages raised inside an expectation, if any. ``info`` is flat or has one entry per failed metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    messages = [str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")]
    return "; ".join(dict.fromkeys(messages))


def _great_expectations() -> Any:
    """Import the library, silenced: no analytics, and no log of errors that become outcomes."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    return gx
