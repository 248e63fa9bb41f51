"""The data dictionary: current, whole, and with the entities that the marts' own keys join."""

from __future__ import annotations

from orchestration.analytics.python_marts import MADE_MARTS
from orchestration.docs_generation.data_dictionary import FILE, Column, Mart, Relation, markdown, marts, relations
from orchestration.queries.metrics import metrics


def test_the_data_dictionary_is_what_the_yml_says() -> None:
    assert FILE.read_text(encoding="utf-8") == markdown(marts()), (
        "`python -m orchestration.docs_generation --dictionary`, and commit it"
    )


def test_every_mart_says_what_it_is_by_column_and_grain() -> None:
    found = marts()
    by_sql = {path.stem for path in FILE.parents[1].glob("dbt_project/models/marts/**/*.sql")}
    assert {mart.name for mart in found} == by_sql | set(MADE_MARTS)
    for mart in found:
        assert mart.description, mart.name
        assert mart.grain, mart.name
        assert {column.name for column in mart.columns} >= set(mart.grain), mart.name
        assert all(column.description and column.data_type for column in mart.columns), mart.name


def test_a_column_that_is_a_dimensions_grain_relates_the_two() -> None:
    def mart(name: str, grain: str, *columns: str) -> Mart:
        return Mart(name, "", tuple(Column(column, "bigint", "", True) for column in columns), (grain,), ())

    films = mart("dim_films", "film", "film", "maker")
    seen = mart("fct_seen", "number", "number", "film", "viewer")
    assert relations([films, seen]) == [Relation("fct_seen", "dim_films", "film")]
    text = markdown([films, seen])
    assert "  dim_films ||--o{ fct_seen : film\n" in text
    assert "    bigint film FK\n" in text


def test_the_metrics_are_in_the_dictionary_with_their_formulas() -> None:
    text = FILE.read_text(encoding="utf-8")
    for metric in metrics():
        assert f"| `{metric.name}`, {metric.label} |" in text
        assert metric.formula in text
