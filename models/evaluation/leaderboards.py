"""``python -m models.evaluation.leaderboards --data DIR --reports DIR``: all recommenders in each protocol, as tables.

Markdown on stdout, JSON under the reports. A finished cell (protocol, recommender, seed) is kept there and read again
as long as neither the data nor the code that it stands on has changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.evaluate import announced
from models.evaluation.benchmarks import FILES, RATING_PROTOCOLS, RankingProblem, RatingProblem
from models.evaluation.evaluation_run import (
    MEMORY_LIMIT,
    Recipe,
    cell_key,
    mean_rows,
    paired_rows,
    run_cell,
    without_users,
)
from models.evaluation.ncf_files import read_given_problem
from models.evaluation.paired_comparison import mean_pairs
from models.evaluation.protocols.base import ProtocolError
from models.evaluation.protocols.ncf import NcfSplit
from models.registry import RANKING_RECOMMENDERS, RATING_RECOMMENDERS, RECOMMENDERS
from models.runtime.code_fingerprint import code_fingerprint
from models.runtime.errors import RecommenderError
from models.tuning.default_hyperparameters import chosen_settings

#: The recommender that every other one is paired with, unless a table says otherwise.
BAR = "ease"
_ML_1M = "ml-1m/ratings_partial_timestamps.tsv.gz"

_COLD = (
    "`users_n`: held-out users known by their first n ratings; `films`: films that nobody rated, among one another."
    " Popularity, EASE, iALS and ItemKNN score all of those films alike, and ties count as misses; a random order would"
    " have the NDCG@10 that `by_chance` in the JSON says."
)


@dataclass(frozen=True, slots=True)
class Table:
    """A protocol on files of the data folder, and what has to be said of it."""

    protocol: str
    title: str
    files: tuple[str, ...]
    note: str = ""
    bars: tuple[str, ...] = (BAR,)
    #: The files are looked for in the folder of the generated edition.
    generated: bool = False


#: Every table; one whose files are not there is left out, and said so.
TABLES = (
    Table(
        "ncf-split",
        "NCF split, the paper's files of ML-1M",
        ("ncf/ml-1m.train.rating", "ncf/ml-1m.test.rating", "ncf/ml-1m.test.negative"),
    ),
    Table(
        "leave-last-out",
        "NCF split, the users of ML-1M whose last item is known",
        (_ML_1M,),
        "Judged are the 2,999 users whose rows all have a time; the others are learnt from. Negatives drawn here.",
    ),
    Table("random-8-1-1", "8:1:1, ML-1M, ratings of 3 and more", (_ML_1M,)),
    Table("random-75-25", "75/25, ML-100k", ("ml-100k/u.data",)),
    Table("rating", "u1 split, ML-100k", ("ml-100k/u1.base", "ml-100k/u1.test")),
    Table("rating-5-fold", "Five folds, ML-100k", ("ml-100k/u.data",)),
    Table("leave-last-out", "Leave last out, ml-latest-small", ("ml-latest-small/ratings.csv",)),
    Table("leave-last-out", "Leave last out, ml-100k", ("ml-100k/u.data",)),
    Table("temporal", "One global cut, ml-100k", ("ml-100k/u.data",)),
    Table(
        "temporal",
        "One global cut, ml-latest-small",
        ("ml-latest-small/ratings.csv",),
        "The cut leaves some dozens of warm users: reported, nothing is judged by it.",
    ),
    Table(
        "temporal",
        "One global cut, a generated edition",
        ("sample/ratings.csv",),
        "Made up: it shows that the protocol carries that many users, nothing of quality.",
        generated=True,
    ),
    Table("strong-generalisation", "Strong generalisation, ML-1M", (_ML_1M,)),
    *(
        Table("cold-start", f"Cold start, {edition}", (file,), _COLD, ("popularity", "content"))
        for edition, file in (
            ("ml-100k", "ml-100k/u.data"),
            ("ML-1M", _ML_1M),
            ("ml-latest-small", "ml-latest-small/ratings.csv"),
        )
    ),
)


def tables(
    data: Path,
    reports: Path,
    seeds: Sequence[int],
    *,
    generated: Path | None = None,
    protocols: Sequence[str] = (),
    names: Sequence[str] = (),
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
) -> dict[str, Any]:
    """Every table that the data allow, or those of ``protocols`` with the recommenders ``names``, as JSON values.

    ``generated``: the folder of a generated edition, whose tables are left out without it.
    """
    found, missing = [], []
    for table in TABLES:
        if protocols and table.protocol not in protocols:
            continue
        folder = data if not table.generated else (generated or data / "generated")
        files = [folder / file for file in table.files]
        if not all(file.is_file() for file in files):
            missing.append({"title": table.title, "files": [str(file) for file in files if not file.is_file()]})
            continue
        problem = read_given_problem(table.protocol, dict(zip(FILES[table.protocol], files, strict=True)))
        known = RATING_RECOMMENDERS if table.protocol in RATING_PROTOCOLS else RANKING_RECOMMENDERS
        wanted = [name for name in known if not names or name in names]
        if wanted:
            rows, refused = _rows(table, problem, wanted, seeds, reports, threads, memory_limit)
            found.append(
                {
                    "protocol": table.protocol,
                    "title": table.title,
                    "note": table.note,
                    "data": dict(problem.data),
                    "means": mean_rows(rows),
                    "paired": [pair for bar in table.bars for pair in paired_rows(rows, bar)],
                    "best_less_each": mean_pairs(rows, table.protocol),
                    "rows": without_users(rows),
                    "refused": refused,
                }
            )
    if not found:
        raise ProtocolError(f"{data}: holds no file of the protocols asked for")
    return {"seeds": list(seeds), "tables": found, "left_out": missing}


def _rows(
    table: Table,
    problem: RankingProblem | RatingProblem,
    names: Sequence[str],
    seeds: Sequence[int],
    reports: Path,
    threads: int,
    memory_limit: int,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the rows of a table, read from disk where finished, and the refused recommenders with the reason."""
    rows, refused = [], {}
    for name in names:
        recipe = Recipe(name, chosen_settings(name, problem.data["interactions"], table.protocol))
        for seed in seeds:
            cell = reports / "cells" / f"{_cell_name(problem, table.protocol, recipe, seed)}.json"
            if cell.is_file():
                rows.append(json.loads(cell.read_text(encoding="utf-8")))
                continue
            print(f"{table.title}: {announced(recipe, problem, seed, threads)}", file=sys.stderr)
            try:
                row = run_cell(problem, recipe, seed=seed, threads=threads, memory_limit=memory_limit)
            except RecommenderError as error:
                refused[name] = str(error)
                break
            _write(cell, row)
            rows.append(row)
    return rows, refused


def _cell_name(problem: RankingProblem | RatingProblem, protocol: str, recipe: Recipe, seed: int) -> str:
    """Return the key of a cell, plus the hash of the code that prepares the files where the protocol has its own."""
    key = cell_key(problem, protocol, recipe, seed)
    return f"{key}-{code_fingerprint('models.evaluation.ncf_files')[:16]}" if protocol == NcfSplit.name else key


def markdown(report: Mapping[str, Any]) -> str:
    """Return the tables as Markdown: means over the seeds, with intervals and differences of the first seed.

    Intervals and differences in the tables are over users. A table whose users are the same in all seeds is followed by
    the lead of the best recommender over each of the others in all seeds.
    """
    parts = []
    for table in report["tables"]:
        data = table["data"]
        facts = f"{data['users']:,} users, {data['items']:,} films, {data['interactions']:,} ratings"
        seeds = ", ".join(map(str, report["seeds"]))
        parts.append(f"## {table['title']} (`{table['protocol']}`)\n\n{facts}; seeds {seeds}. {table['note']}".rstrip())
        if table["rows"]:
            parts.append(_markdown_rows(table))
            parts += _markdown_best(table)
        parts += [f"{name} is not in the table: {reason}" for name, reason in table["refused"].items()]
    parts += [f"{left['title']} is left out: no {', '.join(left['files'])}" for left in report["left_out"]]
    return "\n\n".join(parts) + "\n"


def _markdown_rows(table: Mapping[str, Any]) -> str:
    first = {row["recommender"]: row for row in reversed(table["rows"])}
    figures = list(dict.fromkeys(name for row in table["rows"] for name in row["intervals"]))
    # A column for each figure and bar; of several seeds the first one's pairs.
    pairs = {(pair["figure"], pair["against"], pair["recommender"]): pair for pair in reversed(table["paired"])}
    beside = list(dict.fromkeys((pair["figure"], pair["against"]) for pair in table["paired"]))
    titles = [*figures, *(f"{figure} less {bar}'s" for figure, bar in beside)]
    lines = [
        f"| recommender | {' | '.join(titles)} | fit s | score s | peak MB |",
        "|---" * (len(titles) + 4) + "|",
    ]
    for mean in table["means"]:
        row = first[mean["recommender"]]
        cells = [
            f"{mean[name]:.4f} ({row['intervals'][name][0]:.3f}–{row['intervals'][name][1]:.3f})"
            if name in row["intervals"]
            else "cannot answer"
            for name in figures
        ]
        for figure, bar in beside:
            pair = pairs.get((figure, bar, mean["recommender"]))
            cells.append(
                f"{pair['difference']:+.4f} ({pair['interval'][0]:+.3f}–{pair['interval'][1]:+.3f})" if pair else ""
            )
        costs = f"{mean['fit_seconds']:.1f} | {mean['score_seconds']:.1f} | {mean['peak_memory_mb']}"
        lines.append(f"| {mean['recommender']} | {' | '.join(cells)} | {costs} |")
    return "\n".join(lines)


def _markdown_best(table: Mapping[str, Any]) -> list[str]:
    """Whether the best is better than each of the others, by users' means over the seeds; nothing if unknown."""
    pairs = table["best_less_each"]
    if not pairs:
        return []
    first = pairs[0]
    said = f"{first['recommender']}, the best, less each other's {first['figure']}, users' means over the seeds:"
    told = [
        f"{pair['against']} {pair['difference']:+.4f} ({pair['interval'][0]:+.4f}–{pair['interval'][1]:+.4f})"
        for pair in pairs
    ]
    return [f"{said} {', '.join(told)}."]


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all: a kill in the middle leaves no half a cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the tables; 0, or 2 with one line on stderr when there is nothing to make them of."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluation.leaderboards", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of MovieLens editions")
    parser.add_argument("--reports", type=Path, required=True, help="where JSON and finished cells are kept")
    parser.add_argument("--generated", type=Path, help="the folder of a generated edition")
    parser.add_argument("--protocol", nargs="+", choices=tuple(FILES), default=[], metavar="PROTOCOL")
    parser.add_argument("--model", nargs="+", choices=RECOMMENDERS, default=[], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--memory-limit", type=float, default=MEMORY_LIMIT / 2**30, metavar="GB")
    given = parser.parse_args(arguments)
    try:
        report = tables(
            given.data,
            given.reports,
            given.seeds,
            generated=given.generated,
            protocols=given.protocol,
            names=given.model,
            threads=given.threads,
            memory_limit=int(given.memory_limit * 2**30),
        )
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    _write(given.reports / "evaluation.json", report)
    print(markdown(report), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
