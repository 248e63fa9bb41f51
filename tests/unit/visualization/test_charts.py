"""What the charts say, and that they are pictures a page can show."""

from __future__ import annotations

import base64
import datetime as dt
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from orchestration.visualization import charts

HISTORY = [
    {"epoch": epoch, "loss": 1 / epoch, "hr10": 0.5 + epoch / 100, "ndcg10": 0.4 - abs(epoch - 6) / 100}
    for epoch in range(1, 11)
]
MODELS = [
    {"model": "popularity", "hr10": 0.45, "ndcg10": 0.25, "full_ndcg10": 0.03, "recall20": 0.07, "coverage": 0.05},
    {"model": "ease", "hr10": 0.70, "ndcg10": 0.43, "full_ndcg10": 0.08, "recall20": 0.16, "coverage": 0.45},
    {"model": "neumf", "hr10": 0.71, "ndcg10": 0.42, "full_ndcg10": 0.07, "recall20": 0.15, "coverage": 0.35},
]
RATINGS = pl.DataFrame({"rating": [0.5, 3.0, 4.0, 5.0], "ratings": [1, 300, 400, 299]})
MONTHS = pl.DataFrame({"month": [dt.date(2000, 1, 1), dt.date(2000, 4, 1)], "ratings": [5, 7]})
METHODS = pl.DataFrame({"match_method": ["unmatched", "link", "near_year"], "movies": [10, 980, 10]})
DRIFT = pl.DataFrame(
    {
        "measure": ["rating"] * 4 + ["votes"] * 3,
        "step": [-10, -1, 0, 3, 0, 1, 4],
        "titles": [2, 40, 1000, 5, 1, 900, 150],
    }
)

PLACES = pl.DataFrame(
    {
        "title": ["Money $ and $ more", "Alpha", "Beta"],
        "genres": [["Drama", "War"], [], ["Comedy"]],
        "rating_count": [5, None, 9],
        "x": [0.0, 1.0, -1.0],
        "y": [0.5, 0.0, -0.5],
    }
)

DECISION: list[dict[str, str | float | None]] = [
    {"recipe": "ease 12", "mean": 0.3, "low": 0.28, "high": 0.32},
    {"recipe": "neumf 34", "mean": 0.25, "low": 0.24, "high": 0.26},
    {"recipe": "lost 56", "mean": None, "low": None, "high": None},
]

BARS = pl.DataFrame({"title": ["a film", "x" * 90, "none"], "count": [12, 7, 0]})
STEPS = pl.DataFrame({"low": [1, 2, 5], "high": [1, 4, 9], "users": [9, 4, 1]})
FIELD = pl.DataFrame({"row": ["a", "a", "b"], "column": [1990, 2000, 2000], "share": [0.25, 0.5, 1.0]})
EFFECTS = pl.DataFrame(
    {"m": ["up", "down", "flat"], "d": [0.5, -0.5, 0.0], "l": [0.1, -0.9, -0.2], "h": [0.9, -0.1, 0.2]}
)

FIGURES: dict[str, Callable[[], Any]] = {
    "decision": lambda: charts.decision(DECISION, "ease 12", "NDCG@10"),
    "decision between one": lambda: charts.decision(DECISION[:1], "ease 12", "NDCG@10"),
    "learning curve": lambda: charts.learning_curve(HISTORY),
    "learning curve of one epoch": lambda: charts.learning_curve(HISTORY[:1]),
    "learning curve without validation": lambda: charts.learning_curve([{"epoch": 1, "loss": 1.0}]),
    "comparison": lambda: charts.comparison(MODELS),
    "comparison of one model whose metric is zero": lambda: charts.comparison([{"model": "none", "hr10": 0.0}]),
    "rating histogram": lambda: charts.rating_histogram(RATINGS),
    "activity": lambda: charts.activity_over_time(MONTHS),
    "activity of one month": lambda: charts.activity_over_time(MONTHS.head(1)),
    "newcomers": lambda: charts.activity_over_time(MONTHS, what="Newcomers"),
    "film map": lambda: charts.film_map(PLACES),
    "bars": lambda: charts.bars(BARS, "What there is"),
    "bars below and above nothing": lambda: charts.bars(
        pl.DataFrame({"t": ["up", "down"], "trend": [1.25, -0.5]}), "Trends"
    ),
    "histogram": lambda: charts.histogram(STEPS, "Steps"),
    "histogram of powers": lambda: charts.histogram(STEPS, "Steps", logarithmic=True),
    "heatmap": lambda: charts.heatmap(FIELD, "Field", percent=True),
    "heatmap of one empty cell": lambda: charts.heatmap(FIELD.head(1).with_columns(share=None), "Field"),
    "heatmap of many": lambda: charts.heatmap(
        pl.DataFrame([(f"r{r}", c, float(c)) for r in range(60) for c in range(40)], orient="row"), "Field"
    ),
    "intervals": lambda: charts.intervals(EFFECTS, "Effects"),
    "match methods": lambda: charts.match_methods(METHODS),
    "drift": lambda: charts.rating_drift(DRIFT, 0.3),
    "drift of a dump in which nothing moved": lambda: charts.rating_drift(DRIFT[2:3], 0.3),
}


def png_of(markdown: str) -> bytes:
    start = "![what](data:image/png;base64,"
    assert markdown.startswith(start)
    return base64.b64decode(markdown.removeprefix(start).removesuffix(")"), validate=True)


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    figure.draw_without_rendering()  # tick labels have their text only then
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_a_chart_is_a_small_picture_as_wide_as_the_page(draw: Callable[[], Any]) -> None:
    png = png_of(charts.png_markdown(draw(), "what"))
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert width == 700
    assert 80 <= height <= 600
    assert 2_000 < len(png) < 60_000


def test_the_same_chart_has_the_same_bytes() -> None:
    assert charts.png_markdown(charts.comparison(MODELS)) == charts.png_markdown(charts.comparison(MODELS))


def test_the_comparison_writes_every_value_and_marks_the_best_of_each_metric() -> None:
    figure = charts.comparison(MODELS)
    assert {"HR@10", "NDCG@10", "Full NDCG@10", "Recall@20", "Coverage"} <= set(texts(figure))
    assert {f"{value:.3f}" for row in MODELS for value in row.values() if isinstance(value, float)} <= set(
        texts(figure)
    )
    hit_ratio = figure.axes[0]
    assert [label.get_text() for label in hit_ratio.get_yticklabels()] == ["popularity", "ease", "neumf"]
    assert [bar.get_width() for bar in hit_ratio.patches] == [0.45, 0.70, 0.71]
    from matplotlib.colors import to_hex

    assert [to_hex(bar.get_facecolor()).upper() for bar in hit_ratio.patches] == [charts.GREY, charts.GREY, charts.BLUE]


def test_a_decision_shows_every_recipe_and_marks_the_one_that_is_served() -> None:
    from matplotlib.colors import to_hex

    figure = charts.decision(DECISION, "ease 12", "NDCG@10")
    assert {"ease 12", "neumf 34", "0.3000", "0.2500"} <= set(texts(figure))
    assert "lost 56" not in texts(figure)
    lines = figure.axes[0].lines
    assert [to_hex(line.get_color()).upper() for line in lines] == [charts.BLUE, charts.BLUE, charts.GREY, charts.GREY]


def test_the_learning_curve_names_the_best_epoch_and_its_values() -> None:
    figure = charts.learning_curve(HISTORY)
    assert {"Validation, with the values of the best epoch (6)", "HR@10 0.560", "NDCG@10 0.400"} <= set(texts(figure))


def test_labels_of_lines_that_end_together_do_not_overlap() -> None:
    history = [{"epoch": epoch, "loss": 1.0, "hr10": 0.5, "ndcg10": 0.5001, "mrr": epoch / 10} for epoch in (1, 2)]
    figure = charts.learning_curve(history)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[1].texts]
    assert len(boxes) == 3
    assert not any(one.overlaps(other) for one in boxes for other in boxes if one is not other)


def test_a_month_without_ratings_is_drawn_as_none() -> None:
    outline = charts.activity_over_time(MONTHS).axes[0].patches[0].get_data()
    assert outline.values.tolist() == [5, 0, 0, 7]
    assert len(outline.edges) == 5


def test_the_histogram_says_how_many_and_how_good() -> None:
    said = texts(charts.rating_histogram(RATINGS))
    assert "1,000 ratings, 4.00 stars on average" in said
    assert {"<1%", "30%", "40%"} <= set(said)


def test_bars_are_labelled_with_their_values_and_long_names_are_cut() -> None:
    figure = charts.bars(BARS, "What there is")
    assert {"What there is", "a film", "12", "7", "0", f"{'x' * 59}…"} <= set(texts(figure))
    assert [bar.get_width() for bar in figure.axes[0].patches] == [12, 7, 0]


def test_a_field_writes_its_cells_and_leaves_missing_ones_empty() -> None:
    said = texts(charts.heatmap(FIELD, "Field", percent=True))
    assert {"25%", "50%", "100%", "a", "b", "1990", "2000"} <= set(said)
    assert sum(text.endswith("%") for text in said) == 3


def test_effects_are_in_colour_only_where_their_interval_excludes_nothing() -> None:
    from matplotlib.colors import to_hex

    lines = charts.intervals(EFFECTS, "Effects").axes[0].lines
    assert [to_hex(line.get_color()).upper() for line in lines[1::2]] == [charts.BLUE, charts.ORANGE, charts.GREY]


def test_match_methods_are_named_in_words_with_their_shares() -> None:
    said = texts(charts.match_methods(METHODS))
    assert {"MovieLens link", "No match", "980  (98.0%)", "How 1,000 films were matched to IMDb"} <= set(said)


def test_the_drift_says_how_many_moved_far_and_draws_what_stayed_as_nothing() -> None:
    figure = charts.rating_drift(DRIFT, 0.3)
    assert "47 ratings moved, 7 by 0.3 or more; 1,000 stayed" in texts(figure)
    ratings, votes = figure.axes
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in ratings.patches}
    assert {step: height for step, height in heights.items() if height} == {-10: 2, -1: 40, 3: 5}
    assert [bar.get_height() for bar in votes.patches] == [1, 900, 0, 0, 150, 0, 0]


def test_a_markdown_table_escapes_aligns_and_counts_what_it_leaves_out() -> None:
    frame = pl.DataFrame(
        {
            "title": ["A|B", None, "two\nlines", "<b>"],
            "score": [0.123456, 1234.5, 1e-7, None],
            "genres": [["Drama", "War"], [], None, ["x"]],
        }
    )
    assert charts.markdown_table(frame, max_rows=3).splitlines() == [
        "| title | score | genres |",
        "| --- | ---: | --- |",
        r"| A\|B | 0.1235 | Drama, War |",
        "| NULL | 1,234.5 |  |",
        "| two lines | 1e-07 | NULL |",
        "",
        "… and 1 more",
    ]
    assert charts.markdown_table(frame.tail(1)).splitlines()[2] == r"| \<b> | NULL | x |"


def test_long_text_is_cut() -> None:
    line = charts.markdown_table(pl.DataFrame({"text": ["x" * 500]})).splitlines()[2]
    assert line == f"| {'x' * 119}… |"


def test_importing_the_charts_does_not_import_matplotlib() -> None:
    unwanted = ("matplotlib", "polars")
    code = f"import sys, orchestration.visualization.charts; print([m for m in {unwanted} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
