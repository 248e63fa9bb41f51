"""The metrics as the yml of the mart ``metrics`` defines them: what each is called, means, and is computed by.

The mart, the report and the data dictionary all take them from there, so a figure has one definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from settings import PROJECT_ROOT

DEFINITIONS = PROJECT_ROOT / "dbt_project" / "models" / "marts" / "metrics" / "metrics.yml"


@dataclass(frozen=True)
class Metric:
    """One figure. ``formula``: how it is computed, in words of SQL or of other metrics. ``monthly``: also by month."""

    name: str
    label: str
    unit: str
    description: str
    formula: str
    monthly: bool

    def spoken(self, value: float) -> str:
        """Format the figure for display: shares in percent, counts whole, the others with two decimals."""
        if self.unit == "share":
            return f"{value:.1%}"
        return f"{value:,.0f}" if value == int(value) and self.unit != "stars" else f"{value:,.2f}"


def metrics(file: Path = DEFINITIONS) -> list[Metric]:
    """Every metric, in the order in which they are defined. Raises ``KeyError`` for one that lacks a part."""
    (model,) = yaml.safe_load(file.read_text(encoding="utf-8"))["models"]
    defined: list[dict[str, Any]] = model["config"]["meta"]["metrics"]
    by_name = {metric["name"]: metric for metric in defined}
    return [
        Metric(
            name=metric["name"],
            label=metric["label"],
            unit=metric["unit"],
            description=metric["description"],
            formula=_formula(metric),
            monthly=_monthly(metric, by_name),
        )
        for metric in defined
    ]


def _formula(metric: dict[str, Any]) -> str:
    if "numerator" in metric:
        return f"{metric['numerator']} / {metric['denominator']}"
    condition = f" where {metric['where']}" if "where" in metric else ""
    return " ".join(f"{metric['expression']} of {metric['from']}{condition}".replace("{from}", metric["from"]).split())


def _monthly(metric: dict[str, Any], by_name: dict[str, dict[str, Any]]) -> bool:
    if "numerator" in metric:
        return all(_monthly(by_name[metric[part]], by_name) for part in ("numerator", "denominator"))
    return "month" in metric
