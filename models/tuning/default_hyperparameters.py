"""The chosen settings of each recommender by the size of the data; the reasons are in the TOML file of this name."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from models.evaluation.benchmarks import FILES

_FILE = Path(__file__).with_name("default_hyperparameters.toml")


def chosen_settings(name: str, n_interactions: int, protocol: str = "") -> dict[str, Any]:
    """Return the settings of a recommender at the smallest size that holds so many interactions.

    A nested table overrides them for the protocol of its name, whose data differ in order or in the question.
    Empty where nothing was chosen, and beyond the largest size, for which nothing was measured.
    """
    for size, settings in _sizes():
        if n_interactions <= size:
            values = settings.get(name, {})
            own: dict[str, Any] = {key: value for key, value in values.items() if key not in FILES}
            # TOML has lists alone, configurations have tuples.
            return {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in {**own, **values.get(protocol, {})}.items()
            }
    return {}


@cache
def _sizes() -> tuple[tuple[int, dict[str, dict[str, Any]]], ...]:
    with _FILE.open("rb") as stream:
        sections = tomllib.load(stream)
    return tuple(sorted((int(size.replace("_", "")), settings) for size, settings in sections.items()))
