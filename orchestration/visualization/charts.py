"""Frames as pictures and Markdown for the pages where people look at an asset.

Pictures are about 700 px wide, as the page shows them, in the Okabe-Ito colours (told apart by colour-blind people,
too), with the numbers written where they are asked for. Figures are made without pyplot, so that nothing is shared
between the threads that draw.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9AA5B1"
_INK, _QUIET, _RULE = "#1F2933", "#616E7C", "#E4E7EB"
_WIDTH = 7.0
_DPI = 100
_LONGEST_CELL = 120

#: How metrics and columns are called in a picture.
_NAMES = {
    "loss": "Training loss",
    "coverage": "Coverage",
    "link": "MovieLens link",
    "title_year": "Title and year",
    "aka_title_year": "Other title and year",
    "near_year": "Title, year off by one",
    "unmatched": "No match",
    "imdb_only": "Only in IMDb",
}
_METRICS = {"hr": "HR", "ndcg": "NDCG", "recall": "Recall", "precision": "Precision", "map": "MAP", "mrr": "MRR"}


def png_markdown(figure: Figure, alt: str = "") -> str:
    """Return the figure as a Markdown image with its bytes inside, so that the page needs no other file."""
    buffer = io.BytesIO()
    # The same figure gives the same bytes: without this the library's version is written into the file.
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return f"![{alt}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')})"


def markdown_table(frame: pl.DataFrame, max_rows: int = 20) -> str:
    """Return the first rows as a Markdown table, numbers aligned right; the rows left out are counted below it."""
    header = [name if not kind.is_numeric() else f"{name}:" for name, kind in frame.schema.items()]
    table = markdown_rows(header, frame.head(max_rows).iter_rows())
    left_out = frame.height - max_rows
    return f"{table}\n\n… and {left_out:,} more" if left_out > 0 else table


def markdown_rows(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; a column whose name ends with a colon is aligned right."""
    names = [name.removesuffix(":") for name in header]
    lines = [
        [_cell(name) for name in names],
        ["---:" if name.endswith(":") else "---" for name in header],
        *([_cell(value) for value in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    """Format a value as one line of a table: missing ones visible, the syntax of Markdown escaped, long text cut."""
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (list, tuple)):
        text = ", ".join(_number(part) if isinstance(part, float) else str(part) for part in value)
    else:
        text = str(value)
    text = " ".join(text.split()) if "\n" in text or "\r" in text else text
    if len(text) > _LONGEST_CELL:
        text = text[: _LONGEST_CELL - 1] + "…"
    for character in "\\|<*`":
        text = text.replace(character, "\\" + character)
    return text


def _number(value: float) -> str:
    """Four decimals at most, and never a small number as 0: ``0.25``, ``1,234.5``, ``3.2e-07``."""
    if not math.isfinite(value) or value == 0:
        return str(value)
    if abs(value) < 0.0001:
        return f"{value:.2g}"
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def learning_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss above, what was measured on the validation part below, over the epochs; the best epoch is marked.

    ``history`` has one row an epoch with ``epoch``, ``loss`` and any metrics; the best is the one of the last metric.
    """
    from matplotlib.ticker import MaxNLocator

    metrics = [name for name in history[0] if name not in ("epoch", "loss")]
    epochs = [row["epoch"] for row in history]
    figure, panels = _figure(height=4.2 if metrics else 2.4, rows=2 if metrics else 1)
    loss = panels[0]
    loss.plot(epochs, [row["loss"] for row in history], color=_QUIET, linewidth=2, marker="o", markersize=3)
    _title(loss, "Training loss")
    if metrics:
        best = max(history, key=lambda row: row[metrics[-1]])
        validation = panels[1]
        ends = []
        for name, color in zip(metrics, (BLUE, ORANGE, GREEN, GREY), strict=False):
            values = [row[name] for row in history]
            validation.plot(epochs, values, color=color, linewidth=2, marker="o", markersize=3)
            ends.append((values[-1], f"{_name(name)} {best[name]:.3f}", color))
        _label_ends(validation, epochs[-1], ends)
        _title(validation, f"Validation, with the values of the best epoch ({best['epoch']:.0f})")
        for panel in panels:
            panel.axvline(best["epoch"], color=_QUIET, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    for panel in panels:
        panel.set_xlim(min(epochs) - 0.3, max(epochs) + 0.3)
        panel.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    panels[-1].set_xlabel("Epoch", color=_QUIET, fontsize=9)
    return figure


def comparison(rows: Sequence[Mapping[str, str | float]]) -> Figure:
    """One panel a metric, one bar a model, each with its value; the best of each metric is in colour.

    Each row has one text, the model's name, and its metrics. Metrics differ tenfold in size, so each has its own scale,
    which starts at zero.
    """
    label = next(name for name, value in rows[0].items() if isinstance(value, str))
    metrics = [name for name, value in rows[0].items() if isinstance(value, (int, float))]
    models = [str(row[label]) for row in rows]
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    figure, panels = _figure(height=lines * (0.75 + 0.27 * len(models)) + 0.15, rows=lines, columns=columns)
    for panel in panels[len(metrics) :]:
        panel.set_axis_off()
    for position, (metric, panel) in enumerate(zip(metrics, panels, strict=False)):
        values = [float(row[metric]) for row in rows]
        best = max(values)
        panel.barh(models, values, color=[BLUE if value == best else GREY for value in values], height=0.62)
        panel.invert_yaxis()
        panel.set_xlim(0, best * 1.34 if best > 0 else 1)
        panel.set_xticks([])
        panel.grid(visible=False)
        panel.spines["bottom"].set_visible(False)
        panel.tick_params(axis="y", labelsize=9.5, labelcolor=_INK, labelleft=position % columns == 0)
        for place, value in enumerate(values):
            panel.annotate(
                f"{value:.3f}" if value < 10 else f"{value:,.0f}",
                (value, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=_INK,
                fontweight="bold" if value == best else "normal",
            )
        _title(panel, _name(metric))
    return figure


def decision(rows: Sequence[Mapping[str, str | float | None]], chosen: str, title: str) -> Figure:
    """Each recipe's mean with its interval on one scale; the one that is served after the decision is in colour.

    Rows have ``recipe``, ``mean``, ``low`` and ``high``; those without a mean are left out.
    """
    shown = [row for row in rows if row["mean"] is not None]
    figure, (panel,) = _figure(height=0.9 + 0.34 * len(shown))
    names = [str(row["recipe"]) for row in shown]
    for place, row in enumerate(shown):
        mean, low, high = (float(row[key] or 0.0) for key in ("mean", "low", "high"))
        color = BLUE if row["recipe"] == chosen else GREY
        panel.plot([low, high], [place, place], color=color, linewidth=3, solid_capstyle="round")
        panel.plot([mean], [place], color=color, marker="o", markersize=7)
        panel.annotate(
            f"{mean:.4f}",
            (mean, place),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=_INK,
            fontweight="bold" if row["recipe"] == chosen else "normal",
        )
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.7)
    panel.tick_params(axis="y", labelsize=9.5, labelcolor=_INK)
    panel.spines["bottom"].set_visible(True)
    _title(panel, title)
    return figure


def rating_histogram(frame: pl.DataFrame) -> Figure:
    """How often each rating was given; columns ``rating`` and ``ratings`` (a count)."""
    ordered = frame.sort("rating")
    stars = [float(value) for value in ordered["rating"]]
    counts = ordered["ratings"].to_list()
    figure, (panel,) = _figure(height=2.6)
    panel.bar(stars, counts, width=0.4, color=BLUE)
    total = sum(counts)
    for star, count in zip(stars, counts, strict=True):
        share = f"{count / total:.0%}" if count / total >= 0.01 else "<1%"
        panel.annotate(
            share, (star, count), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=9, color=_INK
        )
    panel.set_xticks(stars, [f"{star:g}" for star in stars])
    panel.margins(y=0.15)
    mean = sum(star * count for star, count in zip(stars, counts, strict=True)) / total
    _counts(panel)
    _title(panel, f"{total:,} ratings, {mean:.2f} stars on average")
    return figure


def activity_over_time(frame: pl.DataFrame, what: str = "Ratings") -> Figure:
    """Ratings, or ``what``, a month; columns ``month`` (its first day) and ``ratings``."""
    import polars as pl
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    known = frame.select(pl.col("month").cast(pl.Date), pl.col("ratings").cast(pl.Int64)).sort("month")
    # A month without ratings has no row, and is 0.
    filled = known.upsample("month", every="1mo").with_columns(pl.col("ratings").fill_null(0))
    months = filled["month"]
    edges = [*months, months.dt.offset_by("1mo")[-1]]
    figure, (panel,) = _figure(height=2.4)
    panel.stairs(filled["ratings"].to_numpy(), date2num(edges), fill=True, color=BLUE, alpha=0.25)
    panel.stairs(filled["ratings"].to_numpy(), date2num(edges), baseline=None, color=BLUE, linewidth=1.2)
    locator = AutoDateLocator(maxticks=9)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panel.margins(x=0.01)
    panel.set_ylim(bottom=0)
    _counts(panel)
    _title(panel, f"{what} a month, {months[0]:%B %Y} to {months[-1]:%B %Y}")
    return figure


def match_methods(frame: pl.DataFrame) -> Figure:
    """How the films were found in IMDb; columns ``match_method`` and ``movies`` (a count)."""
    ordered = frame.sort("movies", descending=True)
    methods, counts = ordered["match_method"].to_list(), ordered["movies"].to_list()
    total = sum(counts)
    figure, (panel,) = _figure(height=0.75 + 0.32 * len(methods))
    colors = [GREY if method in ("unmatched", "imdb_only") else BLUE for method in methods]
    panel.barh([_name(method) for method in methods], counts, color=colors, height=0.62)
    panel.invert_yaxis()
    panel.set_xlim(0, max(counts) * 1.2)
    panel.set_xticks([])
    panel.grid(visible=False)
    panel.spines["bottom"].set_visible(False)
    panel.tick_params(axis="y", labelsize=9.5, labelcolor=_INK)
    for place, count in enumerate(counts):
        panel.annotate(
            f"{count:,}  ({count / total:.1%})",
            (count, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=_INK,
        )
    _title(panel, f"How {total:,} films were matched to IMDb")
    return figure


def rating_drift(frame: pl.DataFrame, threshold: float) -> Figure:
    """How far ratings moved and votes grew from one dump to the next; columns ``measure``, ``step`` and ``titles``.

    Steps of the measure ``rating`` are tenths from -10 (or less) to 10 (or more); those beyond ``threshold`` are in
    colour. Steps of ``votes`` count from 0, for fewer votes, in the order of the labels below.
    """
    growth = ["fewer", "the same", "up to 1 %", "1 to 5 %", "5 to 20 %", "20 to 99 %", "doubled"]
    counts = {(measure, step): titles for measure, step, titles in frame.select("measure", "step", "titles").rows()}
    figure, (ratings, votes) = _figure(height=4.6, rows=2)
    steps = range(-10, 11)
    # That most ratings stay would hide how the others move, so it is said and not drawn.
    moves = [0 if step == 0 else counts.get(("rating", step), 0) for step in steps]
    beyond = [abs(step) >= round(10 * threshold) for step in steps]
    ratings.bar(steps, moves, width=0.8, color=[ORANGE if far else GREY for far in beyond])
    ratings.set_xticks([-10, -5, 0, 5, 10], ["-1 or less", "-0.5", "0", "+0.5", "+1 or more"])
    ratings.margins(y=0.1)
    _counts(ratings)
    same = counts.get(("rating", 0), 0)
    far_moved = sum(move for move, far in zip(moves, beyond, strict=True) if far)
    _title(ratings, f"{sum(moves):,} ratings moved, {far_moved:,} by {threshold:g} or more; {same:,} stayed")
    grown = [counts.get(("votes", step), 0) for step in range(len(growth))]
    votes.bar(growth, grown, width=0.7, color=[ORANGE, GREY, *[BLUE] * (len(growth) - 2)])
    for place, titles in enumerate(grown):
        votes.annotate(
            f"{titles:,}",
            (place, titles),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=_INK,
        )
    votes.margins(y=0.15)
    _counts(votes)
    _title(votes, "Titles by how many more votes they have")
    return figure


def bars(frame: pl.DataFrame, title: str) -> Figure:
    """One bar a row, in the rows' order, with its value; the first column is its label, the second its length."""
    labels = [str(value) if len(str(value)) <= 60 else f"{str(value)[:59]}…" for value in frame.to_series(0).to_list()]
    values = [float(value) for value in frame.to_series(1).to_list()]
    whole = all(value == round(value) for value in values)
    figure, (panel,) = _figure(height=0.75 + 0.27 * len(labels))
    places = range(len(labels))
    panel.barh(places, values, color=BLUE, height=0.62)
    panel.set_yticks(places, labels)
    panel.invert_yaxis()
    panel.set_xlim(min(0.0, *values) * 1.25, (max(0.0, *values) or 1.0) * 1.18)
    panel.set_xticks([])
    panel.grid(visible=False)
    panel.spines["bottom"].set_visible(False)
    panel.tick_params(axis="y", labelsize=9, labelcolor=_INK)
    for place, value in enumerate(values):
        panel.annotate(
            f"{value:,.0f}" if whole else _number(round(value, 3)), (max(value, 0.0), place), xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=9, color=_INK,
        )  # fmt: skip
    _wide_title(figure, title)
    return figure


def histogram(frame: pl.DataFrame, title: str, *, logarithmic: bool = False) -> Figure:
    """How often values fall between steps; columns ``low`` (where a step begins), ``high`` and a count.

    Steps are drawn side by side with the same width where the scale is ``logarithmic``.
    """
    rows = frame.sort("low").rows()
    figure, (panel,) = _figure(height=2.4)
    if logarithmic:
        panel.bar(range(len(rows)), [row[2] for row in rows], width=0.9, color=BLUE)
        labels = [_short(row[0]) if row[0] == row[1] else f"{_short(row[0])}–{_short(row[1])}" for row in rows]
        panel.set_xticks(range(len(rows)), labels, fontsize=8)
    else:
        panel.bar([row[0] for row in rows], [row[2] for row in rows], width=[row[1] - row[0] for row in rows],
                  align="edge", color=BLUE, edgecolor="white", linewidth=0.5)  # fmt: skip
    panel.margins(x=0.01)
    _counts(panel)
    _title(panel, title)
    return figure


def heatmap(frame: pl.DataFrame, title: str, *, percent: bool = False, written: bool = True) -> Figure:
    """Draw a grid of cells, the darker the higher; columns: row label, column label, value.

    Missing cells stay empty.
    """
    import numpy as np

    rows, columns = (frame.to_series(place).unique().sort().to_list() for place in (0, 1))
    cells = np.full((len(rows), len(columns)), np.nan)
    row_at, column_at = ({label: place for place, label in enumerate(labels)} for labels in (rows, columns))
    for row, column, value in frame.iter_rows():
        cells[row_at[row], column_at[column]] = value
    figure, (panel,) = _figure(height=1.0 + min(5.0, 0.26 * len(rows)))
    panel.grid(visible=False)
    panel.imshow(cells, aspect="auto", cmap="Blues", vmin=0)
    step, line = (max(1, -(-len(labels) // most)) for labels, most in ((columns, 14), (rows, 20)))
    panel.set_xticks(range(0, len(columns), step), [str(label) for label in columns[::step]], fontsize=8)
    panel.set_yticks(range(0, len(rows), line), [str(label) for label in rows[::line]], fontsize=8)
    panel.spines["bottom"].set_visible(False)
    if written and cells.size <= 160:
        dark = np.nanmax(cells, initial=0.0) / 2
        for place, value in np.ndenumerate(cells):
            if np.isfinite(value):
                text = f"{value:.0%}" if percent else _number(round(float(value), 2))
                color = "white" if value > dark else _INK
                panel.text(place[1], place[0], text, ha="center", va="center", fontsize=7.5, color=color)
    _wide_title(figure, title)
    return figure


def intervals(frame: pl.DataFrame, title: str, *, zero: float = 0.0) -> Figure:
    """Draw one value per row with its interval; columns: label, value, low, high.

    Intervals that exclude ``zero`` are in color.
    """
    rows = frame.rows()
    figure, (panel,) = _figure(height=0.85 + 0.24 * len(rows))
    panel.axvline(zero, color=_QUIET, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    for place, (_, value, low, high) in enumerate(rows):
        color = BLUE if low > zero else ORANGE if high < zero else GREY
        panel.plot([low, high], [place, place], color=color, linewidth=2)
        panel.plot([value], [place], color=color, marker="o", markersize=5)
    labels = [str(row[0]) if len(str(row[0])) <= 45 else f"{str(row[0])[:44]}…" for row in rows]
    panel.set_yticks(range(len(rows)), labels, fontsize=8.5)
    panel.invert_yaxis()
    panel.grid(visible=False, axis="y")
    panel.grid(visible=True, axis="x", color=_RULE, linewidth=0.8)
    _wide_title(figure, title)
    return figure


def film_map(frame: pl.DataFrame, named: int = 12) -> Figure:
    """Films as dots at ``x`` and ``y``, coloured by the commonest genres, some of the most rated with their titles.

    ``frame`` has a row a film: title, genres (a list), rating_count, x, y.
    """
    import polars as pl

    figure, (panel,) = _figure(height=5.6)
    first = frame.with_columns(
        pl.col("genres").list.first().fill_null("none").alias("genre"), pl.col("rating_count").fill_null(0)
    )
    common = first["genre"].value_counts().sort("count", "genre", descending=[True, False])["genre"].to_list()[:4]
    panel.scatter(first["x"], first["y"], s=4, color=_QUIET, alpha=0.35, linewidths=0, label="other genres")
    for genre, color in zip(common, (BLUE, ORANGE, GREEN, GREY), strict=False):
        of_genre = first.filter(pl.col("genre") == genre)
        panel.scatter(of_genre["x"], of_genre["y"], s=6, color=color, alpha=0.7, linewidths=0, label=genre)
    best = first.sort("rating_count", "title", descending=[True, False]).head(40 * named)
    said: list[tuple[float, float]] = []
    for title, x, y in best.select("title", "x", "y").iter_rows():
        # A name over another one is none.
        if len(said) == named or any(abs(x - left) < 0.4 and abs(y - up) < 0.06 for left, up in said):
            continue
        said.append((x, y))
        panel.annotate(title.replace("$", r"\$"), (x, y), fontsize=7, color=_INK)
    panel.legend(fontsize=8, frameon=False, markerscale=3, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    panel.set_xticks([])
    panel.set_yticks([])
    _title(panel, f"{frame.height:,} films; the same people met those that lie together")
    return figure


def _figure(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of the page's width, its height in inches, with quiet axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    panels = [panel for line in figure.subplots(rows, columns, squeeze=False) for panel in line]
    for panel in panels:
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.spines["bottom"].set_color(_RULE)
        panel.tick_params(length=0, labelsize=9, labelcolor=_QUIET)
        panel.grid(axis="y", color=_RULE, linewidth=0.8)
        panel.set_axisbelow(True)
    return figure, panels


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, loc="left", fontsize=10, color=_INK, fontweight="bold", pad=7)


def _wide_title(figure: Figure, text: str) -> None:
    """Set a title at the picture's left edge, where long labels would leave no room for it above the panel."""
    figure.suptitle(text, x=0.012, ha="left", fontsize=10, color=_INK, fontweight="bold")


def _short(count: float) -> str:
    """``999``, ``1k``, ``20k``, ``1,000k``: a count where room is scarce."""
    return f"{count:,.0f}" if count < 1000 else f"{round(count / 1000):,}k"


def _counts(panel: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    panel.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _label_ends(panel: Axes, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names beside the last points of their lines, moved apart where the lines end close together."""
    low, high = panel.get_ylim()
    gap = (high - low) * 0.12
    y = -math.inf
    for value, text, color in sorted(ends):
        y = max(value, y + gap)
        panel.annotate(
            text, (x, y), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9, color=color,
            annotation_clip=False, fontweight="bold",
        )  # fmt: skip


def _name(key: str) -> str:
    """``ndcg10`` or ``ndcg@10`` -> NDCG@10, ``full_ndcg10`` -> Full NDCG@10; known names in words."""
    if key in _NAMES:
        return _NAMES[key]
    words = []
    for word in key.replace("@", "").split("_"):
        letters = word.rstrip("0123456789")
        number = word[len(letters) :]
        words.append(f"{_METRICS.get(letters, letters)}{'@' if number else ''}{number}")
    text = " ".join(words)
    return text[:1].upper() + text[1:]
