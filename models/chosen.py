"""The chosen settings of each recommender, by the size of the data (``chosen.toml``, where the reasons are)."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("chosen.toml")


def chosen_settings(name: str, n_interactions: int) -> dict[str, Any]:
    """The settings of a recommender for so many interactions: those of the smallest size that holds them.

    Empty where nothing was chosen, and beyond the largest size, for which nothing was measured.
    """
    for size, settings in _sizes():
        if n_interactions <= size:
            return dict(settings.get(name, {}))
    return {}


@cache
def _sizes() -> tuple[tuple[int, dict[str, dict[str, Any]]], ...]:
    with _FILE.open("rb") as stream:
        sections = tomllib.load(stream)
    return tuple(sorted((int(size.replace("_", "")), settings) for size, settings in sections.items()))
