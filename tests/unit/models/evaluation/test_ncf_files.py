from __future__ import annotations

import gzip
import heapq
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.data.batch import UserBatch
from models.evaluate import main
from models.evaluation.benchmarks import RankingProblem, read_problem
from models.evaluation.ncf_files import once_each, read_given_problem
from models.evaluation.protocols.base import RankingTask
from models.evaluation.runner import judge
from models.registry import make_recommender

KINDS = ("train", "test", "negatives")
USERS, ITEMS = 30, 60


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Thirty users of sixty items; the negatives are drawn with replacement, outside the train rows alone."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for user in range(USERS):
        met = rng.choice(ITEMS, 12, replace=False, p=np.arange(1, ITEMS + 1) / np.arange(1, ITEMS + 1).sum())
        rows["train"] += [f"{user}\t{item}\t4\t{1000 + time}" for time, item in enumerate(met[:-1])]
        rows["test"].append(f"{user}\t{met[-1]}\t5\t2000")
        left = np.setdiff1d(np.arange(ITEMS), met[:-1])
        rows["negatives"].append("\t".join([f"({user},{met[-1]})", *map(str, rng.choice(left, 25))]))
    for kind in KINDS:
        (tmp_path / kind).write_text("\n".join(rows[kind]) + "\n")
    return {kind: tmp_path / kind for kind in KINDS}


def _task(files: dict[str, Path]) -> RankingTask:
    problem = read_given_problem("ncf-split", files)
    assert isinstance(problem, RankingProblem)
    return problem.cut(1)


def _arguments(files: dict[str, Path]) -> list[str]:
    return ["ncf-split", *[word for kind in KINDS for word in (f"--{kind}", str(files[kind]))]]


def test_the_figures_are_those_of_the_papers_way_to_rank(files: dict[str, Path]) -> None:
    task = _task(files)
    recommender = make_recommender("ease").fit(task.fit, seed=1)
    found = judge(recommender, task, ("hr_10", "ndcg_10")).by_user
    hits, gains = [], []
    for user, row in enumerate(files["negatives"].read_text().splitlines()):
        pair, *negatives = row.split("\t")
        target = int(pair.strip("()").split(",")[1])
        scores = recommender.score(UserBatch(np.array([user]), task.history[[user]]))[0]
        # As He et al. do: a dictionary of the items, of which the ten best are taken.
        by_item = {int(item): scores[int(item)] for item in [*negatives, target]}
        best = heapq.nlargest(10, by_item, key=by_item.__getitem__)
        hits.append(float(target in best))
        gains.append(math.log(2) / math.log(best.index(target) + 2) if target in best else 0.0)
    assert found["hr_10"].tolist() == hits
    assert found["ndcg_10"] == pytest.approx(gains)
    assert 0.1 < np.mean(hits) < 1


def test_what_comes_twice_would_be_counted_twice_without_it(files: dict[str, Path]) -> None:
    plain = read_problem("ncf-split", files)
    assert isinstance(plain, RankingProblem)
    before = plain.cut(1).candidates
    after = once_each(plain.cut(1)).candidates
    assert before is not None
    assert after is not None
    assert (before[:, 1:] == before[:, :1]).any()
    for row, kept in zip(before.tolist(), after.tolist(), strict=True):
        assert [item for item in kept if item >= 0] == list(dict.fromkeys(row))


def test_nothing_that_is_to_be_found_or_ranked_is_learnt_and_the_validation_knows_nothing_of_the_test(
    files: dict[str, Path],
) -> None:
    problem = read_given_problem("ncf-split", files)
    assert isinstance(problem, RankingProblem)
    task = problem.cut(1)
    learnt = set(task.fit.codes().tolist())
    assert task.candidates is not None
    for user, row in zip(task.users.tolist(), task.candidates.tolist(), strict=True):
        assert not {user * task.fit.n_items + item for item in row if item >= 0} & learnt
    assert not task.relevant.multiply(task.history).nnz
    watched = problem.protocol.validation(task, seed=1)
    found = np.repeat(watched.users, np.diff(watched.relevant.indptr)) * task.fit.n_items + watched.relevant.indices
    assert set(found.tolist()) <= learnt
    assert set(watched.fit.codes().tolist()) == learnt - set(found.tolist())
    # A user's last row of the train file, whatever the test file says.
    last = {user: task.fit.timestamps[task.fit.users == user].max() for user in range(USERS)}
    assert all(watched.fit.timestamps[watched.fit.users == user].max() < last[user] for user in range(USERS))


VARIANTS: dict[str, Callable[[str, str], str]] = {
    "carriage returns": lambda kind, text: text.replace("\n", "\r\n"),
    "headers": lambda kind, text: text if kind == "negatives" else "user\titem\trating\ttimestamp\n" + text,
    "another order of the negatives": lambda kind, text: _reversed(text) if kind == "negatives" else text,
    "another order of the test": lambda kind, text: _reversed(text) if kind == "test" else text,
    "blanks in the pairs": lambda kind, text: text.replace(",", ", "),
    "blanks at the ends": lambda kind, text: text.replace("\n", "\t\n"),
    "blank rows": lambda kind, text: text + "\n\n",
    "no end of the last row": lambda kind, text: text.removesuffix("\n"),
}


def _reversed(text: str) -> str:
    return "\n".join(reversed(text.splitlines())) + "\n"


@pytest.mark.parametrize("variant", VARIANTS)
def test_files_that_say_the_same_are_the_same_task(files: dict[str, Path], variant: str) -> None:
    expected = _task(files)
    for kind, path in files.items():
        path.write_bytes(VARIANTS[variant](kind, path.read_text()).encode())
    found = _task(files)
    assert found.fit.codes().tolist() == expected.fit.codes().tolist()
    assert np.array_equal(found.relevant.toarray(), expected.relevant.toarray())
    assert np.array_equal(found.candidates, expected.candidates)  # type: ignore[arg-type]


def test_packed_files_are_read_too_and_the_hash_is_that_of_the_files_given(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    packed = {kind: path.with_suffix(".gz") for kind, path in files.items()}
    for kind, path in packed.items():
        path.write_bytes(gzip.compress(files[kind].read_bytes()))
    reports: list[dict[str, Any]] = []
    for given in (files, packed):
        assert main([*_arguments(given), "--model", "popularity"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0]["means"][0]["hr_10"] == reports[1]["means"][0]["hr_10"]
    assert reports[0]["data"]["sha256"] == read_problem("ncf-split", files).data["sha256"]
    assert reports[1]["data"]["sha256"] != reports[0]["data"]["sha256"]
    assert reports[1]["data"]["files"] == {kind: path.name for kind, path in packed.items()}


def test_a_row_with_fewer_negatives_is_refused_by_its_number(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = files["negatives"].read_text().splitlines()
    rows[6] = rows[6].rpartition("\t")[0]
    files["negatives"].write_text("\n".join(rows))
    assert main([*_arguments(files), "--model", "popularity"]) == 2
    assert f"{files['negatives']}: row 7 has 24 negatives and the first one 25" in capsys.readouterr().err


def test_a_fault_is_told_of_the_file_that_was_given_and_not_of_its_copy(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files["train"].write_text("user\titem\trating\ttimestamp\n0\t1\tx\t3\n")
    assert main([*_arguments(files), "--model", "popularity"]) == 2
    assert f"{files['train']}: a row is not four numbers" in capsys.readouterr().err
