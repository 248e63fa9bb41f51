"""The data dictionary and the entity diagram: Markdown made of what is said of each mart where it is declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestration.analytics.python_marts import MADE_MARTS, MadeMart
from orchestration.quality.suites import SUITES
from orchestration.queries.analyses import analyses
from orchestration.queries.metrics import metrics
from orchestration.queries.table_macros import questions
from settings import PROJECT_ROOT

MARTS = PROJECT_ROOT / "dbt_project" / "models" / "marts"
#: Where the dictionary is kept; `make docs` writes it, and a test holds it against the yml.
FILE = PROJECT_ROOT / "docs" / "data-dictionary.md"


@dataclass(frozen=True)
class Column:
    """One column of a mart."""

    name: str
    data_type: str
    description: str
    required: bool


@dataclass(frozen=True)
class Mart:
    """One mart. ``grain``: the columns of which each row has a combination of its own; ``rule``: what holds for all."""

    name: str
    description: str
    columns: tuple[Column, ...]
    grain: tuple[str, ...]
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """Rows of ``many`` belong to a row of ``one``, by a column that is the grain of ``one``."""

    many: str
    one: str
    column: str


def marts(folder: Path = MARTS) -> list[Mart]:
    """Every mart by name: those that a yml below the folder describes, and those that Python makes."""
    models = [
        model
        for path in sorted(folder.rglob("*.yml"))
        for model in yaml.safe_load(path.read_text(encoding="utf-8")).get("models", [])
    ]
    found = [*(_mart(model) for model in models), *(_made(mart) for mart in MADE_MARTS.values())]
    return sorted(found, key=lambda mart: mart.name)


def relations(found: list[Mart]) -> list[Relation]:
    """Which mart's rows belong to which dimension's: a ``dim_`` mart of one column's grain, and who has that column."""
    keys = {mart.grain[0]: mart.name for mart in found if mart.name.startswith("dim_") and len(mart.grain) == 1}
    return [
        Relation(mart.name, keys[column.name], column.name)
        for mart in found
        for column in mart.columns
        if column.name in keys and keys[column.name] != mart.name
    ]


def markdown(found: list[Mart]) -> str:
    """Return the whole dictionary: the diagram, the metrics, each mart with its columns, the questions."""
    return "\n".join(_lines(found)) + "\n"


def _mart(model: dict[str, Any]) -> Mart:
    tests = [test for test in model.get("data_tests", []) if isinstance(test, dict)]
    grains = [test["unique_grain"]["arguments"]["columns"] for test in tests if "unique_grain" in test]
    rules = [test["holds"]["arguments"]["rule"] for test in tests if "holds" in test]
    columns = tuple(
        Column(
            name=column["name"],
            data_type=str(column.get("data_type", "")),
            description=_one_line(column.get("description", "")),
            required=any(constraint["type"] == "not_null" for constraint in column.get("constraints", [])),
        )
        for column in model.get("columns", [])
    )
    return Mart(
        name=model["name"],
        description=_one_line(model.get("description", "")),
        columns=columns,
        grain=tuple(grains[0]) if grains else (),
        rules=tuple(_one_line(rule) for rule in rules),
    )


def _made(mart: MadeMart) -> Mart:
    """Describe a mart that no yml describes; its grain and non-NULL columns come from its Great Expectations suite."""
    rules = SUITES[mart.relation].all_rules
    grains = [rule.columns for rule in rules if rule.is_unique]
    never_null = {rule.columns[0] for rule in rules if rule.expectation == "ExpectColumnValuesToNotBeNull"}
    columns = tuple(
        Column(name, kind.lower(), _one_line(said), name in never_null) for name, kind, said in mart.columns
    )
    return Mart(mart.name, _one_line(mart.description), columns, grains[0] if grains else (), ())


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _lines(found: list[Mart]) -> Iterator[str]:
    yield "# Data dictionary"
    yield ""
    yield (
        "What the published copy holds: one table a mart, in the schema `marts`. Made by `make docs` of what is said"
        " of each mart where it is declared; do not edit it here."
    )
    yield ""
    yield "## Entities"
    yield ""
    yield from _diagram(found)
    yield ""
    yield "## Metrics"
    yield ""
    yield "Each is defined once, in `dbt_project/models/marts/metrics/metrics.yml`, and computed in `marts.metrics`."
    yield ""
    yield "| metric | unit | what it is | how it is computed | by month |"
    yield "|---|---|---|---|---|"
    for metric in metrics():
        monthly = "yes" if metric.monthly else "no"
        yield (
            f"| `{metric.name}`, {metric.label} | {metric.unit} | {_cell(metric.description)} |"
            f" `{_cell(metric.formula)}` | {monthly} |"
        )
    yield ""
    yield "## Marts"
    for mart in found:
        yield ""
        yield f"### {mart.name}"
        yield ""
        yield mart.description
        yield ""
        if mart.grain:
            yield "Grain: " + ", ".join(f"`{column}`" for column in mart.grain) + "."
            yield ""
        yield "| column | type | | what it is |"
        yield "|---|---|---|---|"
        for column in mart.columns:
            required = "" if column.required else "may be NULL"
            yield f"| `{column.name}` | {_cell(column.data_type)} | {required} | {_cell(column.description)} |"
        for rule in mart.rules:
            yield ""
            yield f"Holds for every row: `{rule}`"
    yield ""
    yield "## Questions"
    yield ""
    yield "Views of the schema `questions`, with their answers on the sample, and macros of the schema `marts`."
    yield ""
    yield "| question | asked by |"
    yield "|---|---|"
    for analysis in analyses():
        yield (
            f"| [{_cell(analysis.question)}](../dbt_project/analyses/answers/{analysis.name}.md)"
            f" | `FROM questions.{analysis.name}` |"
        )
    for question in questions():
        asked, _, example = question.comment.partition(": ")
        yield f"| {_cell(asked)} | `{_cell(example.partition('. ')[0])}` |"


def _diagram(found: list[Mart]) -> Iterator[str]:
    yield "```mermaid"
    yield "erDiagram"
    for relation in relations(found):
        yield f"  {relation.one} ||--o{{ {relation.many} : {relation.column}"
    for mart in found:
        yield f"  {mart.name} {{"
        keys = {relation.column for relation in relations(found) if relation.many == mart.name}
        for column in mart.columns:
            if column.name in mart.grain or column.name in keys:
                marks = [
                    mark for mark, is_so in (("PK", column.name in mart.grain), ("FK", column.name in keys)) if is_so
                ]
                yield f"    {_plain(column.data_type)} {column.name} {', '.join(marks)}"
        yield "  }"
    yield "```"


def _plain(data_type: str) -> str:
    """Return a type as mermaid accepts it."""
    return "".join(letter if letter.isalnum() else "_" for letter in data_type).strip("_")
