"""``python -m models.evaluate PROTOCOL --model NAME …``: one published protocol on given files, JSON on stdout."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.evaluation.benchmarks import FILES, RATING_PROTOCOLS, RankingProblem, RatingProblem
from models.evaluation.evaluation_run import MEMORY_LIMIT, Recipe, mean_rows, paired_rows, run_cell, without_users
from models.evaluation.ncf_files import read_given_problem
from models.registry import RANKING_RECOMMENDERS, RATING_RECOMMENDERS, RECOMMENDERS, recommender_class
from models.runtime.errors import RecommenderError
from models.tuning.default_hyperparameters import chosen_settings

#: What each file of a protocol holds.
_HELP = {
    "ratings": "a MovieLens ratings file, any layout",
    "train": "the file to learn from",
    "test": "the file to be judged by",
    "negatives": "(user,item) and its sampled negatives, a row for each of the test file",
}


def evaluate(
    protocol: str,
    problem: RankingProblem | RatingProblem,
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    *,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
    against: str = "ease",
) -> dict[str, Any]:
    """Return the report: one row a recipe and seed, the means over the seeds, and the failed recipes with why.

    ``paired`` compares each recommender with ``against`` user by user, if ``against`` is one of them.
    """
    rows, refused = [], {}
    for seed in seeds:
        for recipe in recipes:
            if recipe.name in refused:
                continue
            print(announced(recipe, problem, seed, threads), file=sys.stderr)
            try:
                rows.append(run_cell(problem, recipe, seed=seed, threads=threads, memory_limit=memory_limit))
            except RecommenderError as error:
                refused[recipe.name] = str(error)
                print(error, file=sys.stderr)
    if not rows:
        raise RecommenderError("; ".join(refused.values()))
    return {
        "protocol": protocol,
        "data": dict(problem.data),
        "seeds": list(seeds),
        "means": mean_rows(rows),
        "paired": paired_rows(rows, against),
        "rows": without_users(rows),
        "refused": refused,
    }


def announced(recipe: Recipe, problem: RankingProblem | RatingProblem, seed: int, threads: int) -> str:
    """Return the line to print before a fit: recipe, seed, and the memory that a fit on all the data would hold."""
    sizes = (problem.data[size] for size in ("users", "items", "interactions"))
    stated = recipe.make({}, threads).fit_memory(*sizes)
    return f"{recipe.name}, seed {seed}: states {stated / 2**20:,.1f} MB"


def recipes_of(names: Iterable[str], settings: Sequence[str], grids: Sequence[str]) -> list[Recipe]:
    """Recipes with ``MODEL.FIELD=VALUE`` settings and ``MODEL.FIELD=VALUE,VALUE`` grids; ``ValueError`` for others.

    >>> recipes_of(["ease"], [], ["ease.l2=100,300"])
    [Recipe(name='ease', settings={}, grid={'l2': (100, 300)})]
    """
    given = {name: ({}, {}) for name in names}  # type: dict[str, tuple[dict[str, Any], dict[str, Any]]]
    for which, assignments in enumerate((settings, grids)):
        for assignment in assignments:
            target, equals, text = assignment.partition("=")
            name, dot, field = target.partition(".")
            if not (equals and dot):
                raise ValueError(f"{assignment!r} is not MODEL.FIELD=VALUE")
            if name not in given:
                raise ValueError(f"{assignment!r}: {name} is not among the models of this run")
            if field not in recommender_class(name).config_class.__dataclass_fields__:
                raise ValueError(f"{assignment!r}: {name} has no setting {field}")
            try:
                value = ast.literal_eval(f"({text},)" if which else text)
            except (ValueError, SyntaxError) as error:
                raise ValueError(f"{assignment!r}: {text!r} is no value") from error
            given[name][which][field] = value
    return [Recipe(name, *parts) for name, parts in given.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a protocol; 0, or 2 with one line on stderr when the input cannot be used."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        files = {kind: getattr(given, kind) for kind in FILES[given.protocol]}
        recipes = recipes_of(given.model, given.set, given.choose)
        options = {key: getattr(given, key) for key in ("min_rating", "share") if hasattr(given, key)}
        problem = read_given_problem(given.protocol, files, **options)
        limit = int(given.memory_limit * 2**30)
        if not given.defaults:
            size = problem.data["interactions"]
            recipes = [
                replace(recipe, settings={**chosen_settings(recipe.name, size, given.protocol), **recipe.settings})
                for recipe in recipes
            ]
        report = evaluate(
            given.protocol,
            problem,
            recipes,
            given.seeds,
            threads=given.threads,
            memory_limit=limit,
            against=given.against,
        )
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    protocols = parser.add_subparsers(dest="protocol", required=True)
    for name, kinds in FILES.items():
        known = RATING_RECOMMENDERS if name in RATING_PROTOCOLS else RANKING_RECOMMENDERS
        command = protocols.add_parser(name)
        for kind in kinds:
            command.add_argument(f"--{kind}", type=Path, required=True, help=_HELP[kind])
        command.add_argument("--model", nargs="+", choices=RECOMMENDERS, default=list(known), metavar="NAME")
        command.add_argument("--seeds", "--seed", nargs="+", type=int, default=[42])
        command.add_argument(
            "--set",
            nargs="+",
            default=[],
            metavar="MODEL.FIELD=VALUE",
            help="a setting; the others are as default_hyperparameters.toml has them for so many ratings",
        )
        command.add_argument("--defaults", action="store_true", help="the classes' defaults, not what was chosen")
        command.add_argument(
            "--choose", nargs="+", default=[], metavar="MODEL.FIELD=V,V", help="best value on a validation of the fit"
        )
        command.add_argument("--against", choices=RECOMMENDERS, default="ease", metavar="NAME", help="for the pairs")
        command.add_argument("--threads", type=int, default=1, help="threads of torch")
        command.add_argument("--memory-limit", type=float, default=MEMORY_LIMIT / 2**30, metavar="GB")
        if name == "random-8-1-1":
            command.add_argument("--min-rating", type=float, default=3.0)
        if name == "temporal":
            command.add_argument("--share", type=float, default=0.9, help="share of the rows before the cut")
    return parser


if __name__ == "__main__":
    sys.exit(main())
