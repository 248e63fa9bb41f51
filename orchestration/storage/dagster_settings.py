"""Dagster's settings of a home: ours, and over them the owner's, which outlive every start and change of edition.

``dagster/dagster.yaml`` is generated. What its owner changes there is found by comparing it with what was written last,
and kept in ``dagster.extra.yaml`` of the home, which the owner may edit as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

#: Settings as YAML has them: names, with values or settings of their own.
Tree = Mapping[str, Any]

#: Begins the comment with what was written, by which the owner's changes are known. One file holds both, so that a kill
#: cannot part them.
_NOTE = "# Written: "

#: What was written before there was such a comment, and what the owner's own file is compared with.
_FIRST_WRITTEN: Tree = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    "concurrency": {"runs": {"max_concurrent_runs": 1}},
    "run_monitoring": {"enabled": True, "free_slots_after_run_end_seconds": 60},
}


def read_tree(text: str) -> Tree:
    """Parse a file of settings; an empty one has none. Raises ``ValueError`` with the reason in one line."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"settings by name are wanted, not {type(found).__name__}")
    return found


def write_tree(tree: Tree) -> str:
    """Return the text of a file of settings."""
    return str(yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)) if tree else ""


def noting(text: str, written: Tree) -> str:
    """Return the text of a file with the comment that notes what was written."""
    lines = [line for line in text.splitlines() if not line.startswith(_NOTE)]
    return "\n".join([f"{_NOTE}{json.dumps(written)}", *lines]) + "\n"


def noted(text: str) -> Tree:
    """Return what a file's comment notes as written."""
    note = next((line for line in text.splitlines() if line.startswith(_NOTE)), None)
    try:
        found = json.loads(note.removeprefix(_NOTE)) if note is not None else _FIRST_WRITTEN
    except ValueError:
        return _FIRST_WRITTEN
    return found if isinstance(found, dict) else _FIRST_WRITTEN


def merged(ours: Tree, owners: Tree) -> dict[str, Any]:
    """Return our settings with the owner's over them, name by name at every depth."""
    both = {name: _merged_value(ours[name], owners[name]) for name in ours.keys() & owners.keys()}
    return {name: both.get(name, value) for name, value in {**ours, **owners}.items()}


def _merged_value(ours: Any, owners: Any) -> Any:
    return merged(ours, owners) if isinstance(ours, dict) and isinstance(owners, dict) else owners


def owners_settings(owners: Tree, *, written: Tree, found: Tree) -> dict[str, Any]:
    """Return the owner's settings with what was changed by hand since a file was written.

    What is there now and was not written, or has another value, is the owner's. What was written and is gone is the
    owner's no longer; a setting of ours that is gone comes back with the next start.
    """
    kept = dict(owners)
    for name in written.keys() - found.keys():
        kept.pop(name, None)
    for name, value in found.items():
        before, own = written.get(name), owners.get(name, {})
        if name in written and isinstance(value, dict) and isinstance(before, dict):
            below = owners_settings(own if isinstance(own, dict) else {}, written=before, found=value)
            kept.pop(name, None)
            kept |= {name: below} if below else {}
        elif name not in written or value != before:
            kept[name] = value
    return kept
