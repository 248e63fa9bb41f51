"""Dagster's event log as a few readable lines on the terminal: what is built, how long it took, what went wrong."""

import logging
import sys
import time
from typing import Any

import dagster as dg

#: What Dagster says of its own doings; the lines of models and failures tell more.
_CHATTER = ("Dependencies for step",)


class _ProgressHandler(logging.Handler):
    """One line a finished asset and a failed check; long steps say that they have begun."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._started: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a reader of the terminal wants of one log record."""
        facts = getattr(record, "dagster_meta", None) or {}
        event = facts.get("dagster_event")
        if event is None:
            message = facts.get("orig_message", record.getMessage())
            if facts.get("step_key") and not message.startswith(_CHATTER):
                self._say(f"     · {message}")
            return
        step = event.step_key or ""
        if event.is_step_start:
            self._started[step] = time.monotonic()
            self._say(f"   > {step.replace('__', '/')}")
        elif event.is_step_materialization:
            rows = _row_count(event)
            self._say(f"     {event.asset_key.to_user_string():<44}{rows}")
        elif event.is_step_success:
            took = time.monotonic() - self._started.get(step, time.monotonic())
            if took >= 2:
                self._say(f"     {took:.1f} s")
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                kind = "FAILED" if check.severity == dg.AssetCheckSeverity.ERROR else "warning"
                self._say(f"   ! {kind}: {check.asset_key.to_user_string()}: {check.check_name}")
        elif event.is_step_failure:
            self._say(f"   ! {step.replace('__', '/')} failed")

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def _row_count(event: Any) -> str:
    count = event.materialization.metadata.get("dagster/row_count")
    return "" if count is None or count.value is None else f"{count.value:>12,} rows"


@dg.logger(description="A line an asset, for the terminal.")
def progress_logger(_: dg.InitLoggerContext) -> logging.Logger:
    """Return the logger of `make run` and `make update`."""
    logger = logging.getLogger("marquee.progress")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [_ProgressHandler()]
    return logger
