"""What one observe-and-rebuild did, as lines for the terminal: what changed, what was rebuilt, what was spared, why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg

from orchestration.pipeline.incremental import Observed, Rebuilt, Result


def story(observed: Observed, result: Result) -> list[str]:
    """Return the summary of an incremental run; empty if nothing was rebuilt or, as in a first build, skipped."""
    if not result.rebuilt or not result.spared:
        return []
    return ["", *_upstream(observed), *_rebuilt(result.rebuilt), *_spared(result.spared)]


def _upstream(observed: Observed) -> Iterator[str]:
    changed = ", ".join(_name(key).removeprefix("upstream/") for key in observed.changed) or "nothing"
    yield f"changed upstream: {changed}; as before: {len(observed.unchanged)} of {_all(observed)} files"


def _all(observed: Observed) -> int:
    return len(observed.changed) + len(observed.unchanged)


def _rebuilt(rebuilt: Mapping[dg.AssetKey, Rebuilt]) -> Iterator[str]:
    yield f"rebuilt: {len(rebuilt)}"
    width = max(len(_name(key)) for key in rebuilt)
    for key, how in rebuilt.items():
        outcome = "changed " if how.changed else "the same"
        yield f"   {_name(key):<{width}}  {outcome}  because {how.reason}"


def _spared(spared: Mapping[dg.AssetKey, str]) -> Iterator[str]:
    yield f"spared: {len(spared)}"
    by_reason: dict[str, list[dg.AssetKey]] = {}
    for key in sorted(spared):
        by_reason.setdefault(spared[key], []).append(key)
    for reason, keys in sorted(by_reason.items(), key=lambda group: len(group[1])):
        yield f"   {reason}:"
        yield from _wrapped(_name(key) for key in keys)


def _wrapped(names: Iterable[str], width: int = 110) -> Iterator[str]:
    line = ""
    for name in names:
        if line and len(line) + len(name) + 2 > width:
            yield f"      {line},"
            line = ""
        line = f"{line}, {name}" if line else name
    yield f"      {line}"


def _name(key: dg.AssetKey) -> str:
    return key.to_user_string()
