from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.algorithms.ease import EaseConfig
from models.data.ratings_reader import RatingsFileError, read_rating_parts, read_ratings
from models.evaluate import main, recipes_of
from models.tuning.default_hyperparameters import chosen_settings

ROWS = [(7, 30, 4, 100), (7, 10, 3, 200), (2, 10, 5, 300), (2, 20, 1, 250), (9, 20, 2, 50), (9, 30, 4, 60)]


def _lines(separator: str) -> list[str]:
    return [separator.join(map(str, row)) for row in ROWS]


LAYOUTS = {
    "u.data": "\n".join(_lines("\t")) + "\n",
    "ratings.dat": "\n".join(_lines("::")) + "\n",
    "ratings.csv": "\r\n".join(["userId,movieId,rating,timestamp", *_lines(",")]) + "\r\n",
    "anything.txt": "\n".join(_lines("\t")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_a_ratings_file_is_read_alike(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LAYOUTS[name].encode())
    read = read_ratings(tmp_path / name)
    rows = read.interactions
    assert read.users_left_out == 0
    # Users 2, 7, 9 and films 10, 20, 30 are indices 0, 1, 2.
    found = sorted(zip(rows.users, rows.items, rows.ratings, rows.timestamps, strict=True))
    assert found == [(0, 0, 5, 300), (0, 1, 1, 250), (1, 0, 3, 200), (1, 2, 4, 100), (2, 1, 2, 50), (2, 2, 4, 60)]


def test_users_with_an_unknown_time_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "ratings.tsv.gz"
    file.write_bytes(gzip.compress("\n".join([*_lines("\t"), "9\t10\t4\t\\N"]).encode()))
    read = read_ratings(file)
    assert read.users_left_out == 1
    assert read.interactions.n_users == 2


def test_of_two_ratings_of_a_film_the_later_one_is_kept(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t5\t2\t20\n1\t5\t4\t10\n1\t6\t3\t30\n")
    assert read_ratings(tmp_path / "u.data").interactions.ratings.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "no ratings in it"),
        ("userId,movieId,rating,timestamp\n", "no ratings in it"),
        ("a;b;c\n", "no MovieLens layout"),
        ("1\t2\t3\t4\n1\tx\t3\t4\n", "1 rows are no ratings, the first one is row 2"),
    ],
)
def test_a_file_that_is_no_ratings_file_is_refused_by_name(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "given.txt").write_text(content)
    with pytest.raises(RatingsFileError, match=complaint) as error:
        read_ratings(tmp_path / "given.txt")
    assert "given.txt" in str(error.value)


def test_users_with_an_unknown_time_are_kept_when_asked_for_and_named(tmp_path: Path) -> None:
    (tmp_path / "ratings.tsv").write_text("\n".join([*_lines("\t"), "9\t10\t4\t\\N"]))
    read = read_ratings(tmp_path / "ratings.tsv", keep_timeless=True)
    assert len(read.interactions) == 7
    assert read.known_times.tolist() == [True, True, False]
    assert read.user_ids.tolist() == [2, 7, 9]
    assert read.item_ids.tolist() == [10, 20, 30]


def test_two_parts_of_a_data_set_share_their_indices(tmp_path: Path) -> None:
    (tmp_path / "u1.base").write_text("5\t10\t4\t1\n9\t30\t2\t1\n")
    (tmp_path / "u1.test").write_text("7\t30\t3\t1\n9\t20\t5\t1\n")
    train, test = read_rating_parts(tmp_path / "u1.base", tmp_path / "u1.test")
    assert (train.interactions.users.tolist(), train.interactions.items.tolist()) == ([0, 2], [0, 2])
    assert (test.interactions.users.tolist(), test.interactions.items.tolist()) == ([1, 2], [2, 1])
    assert train.interactions.n_items == test.interactions.n_items == 3


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    codes = rng.choice(40 * 150, 800, replace=False)
    lines = [f"{c // 150}\t{c % 150}\t{1 + c % 5}\t{t}" for t, c in enumerate(codes)]
    (tmp_path / "u.data").write_text("\n".join(lines))
    return tmp_path / "u.data"


def test_the_command_prints_a_report_as_json(ratings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["leave-last-out", "--ratings", str(ratings), "--threads", "1", "--seeds", "1", "2"]
    assert main([*arguments, "--model", "popularity", "ease", "neumf", "--set", "neumf.epochs=2"]) == 0
    said = capsys.readouterr()
    # The memory is stated before the fit, whose first step is told after it.
    lines = said.err.splitlines()
    stated = next(place for place, line in enumerate(lines) if line.startswith("neumf, seed 1: states "))
    assert lines[stated + 1].startswith("neumf: 1 of at most 2")
    report = json.loads(said.out)
    assert report["protocol"] == "leave-last-out"
    assert report["data"]["interactions"] == 800
    assert len(report["data"]["sha256"]) == 64
    rows = report["rows"]
    assert [(row["recommender"], row["seed"]) for row in rows] == [
        (name, seed) for seed in (1, 2) for name in ("popularity", "ease", "neumf")
    ]
    assert all(0 <= row["ndcg_10"] <= row["hr_10"] <= 1 for row in rows)
    assert all(low <= row["ndcg_10"] <= high for row in rows for low, high in [row["intervals"]["ndcg_10"]])
    assert all(row["peak_memory_mb"] > 50 and row["fit_seconds"] >= 0 for row in rows)
    assert rows[2]["config"]["use_features"] is False
    assert rows[2]["config"]["epochs"] == 2
    assert all("by_user" not in row for row in rows)
    pairs = {(pair["recommender"], pair["seed"]): pair for pair in report["paired"]}
    assert set(pairs) == {(name, seed) for name in ("popularity", "neumf") for seed in (1, 2)}
    assert pairs["popularity", 2]["difference"] == pytest.approx(rows[3]["ndcg_10"] - rows[4]["ndcg_10"])
    low, high = pairs["popularity", 2]["interval"]
    assert low <= pairs["popularity", 2]["difference"] <= high
    assert report["means"][0]["hr_10"] == pytest.approx((rows[0]["hr_10"] + rows[3]["hr_10"]) / 2)


@pytest.mark.parametrize(
    ("protocol", "figures"),
    [
        ("random-75-25", ("ndcg_10", "precision_10", "recall_10", "map_10")),
        ("random-8-1-1", ("ndcg_10", "recall_10", "mrr_10")),
        ("temporal", ("ndcg_10", "recall_20")),
        ("strong-generalisation", ("recall_capped_20", "recall_capped_50", "ndcg_100")),
    ],
)
def test_every_ranking_protocol_reports_its_own_figures(
    ratings: Path, capsys: pytest.CaptureFixture[str], protocol: str, figures: tuple[str, ...]
) -> None:
    assert main([protocol, "--ratings", str(ratings), "--model", "popularity", "itemknn", "--seeds", "3"]) == 0
    for row in json.loads(capsys.readouterr().out)["rows"]:
        assert all(0 <= row[name] <= 1 for name in figures)
        assert 0 < row["beyond_accuracy"]["coverage_10"] <= 1
        assert row["beyond_accuracy"]["novelty_10"] > 0
        assert sum(part["users"] for name, part in _activity(row).items()) == row["test_users"]


def test_cold_start_reports_each_question_by_itself_beside_what_it_is_compared_with(
    ratings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["cold-start", "--ratings", str(ratings), "--seeds", "3", "--against", "popularity"]
    assert main([*arguments, "--model", "popularity", "itemknn", "bpr", "--set", "bpr.epochs=1"]) == 0
    report = json.loads(capsys.readouterr().out)
    popular, knn, bpr = report["rows"]
    for name in ("users_1", "users_2", "users_5", "films"):
        assert 0 <= knn[f"ndcg_10_{name}"] <= 1
        pair = next(p for p in report["paired"] if p["figure"] == f"ndcg_10_{name}" and p["recommender"] == "itemknn")
        assert pair["difference"] == pytest.approx(knn[f"ndcg_10_{name}"] - popular[f"ndcg_10_{name}"])
    # It knows its users by their index, and can be asked about the films alone.
    assert "ndcg_10_users_1" not in bpr
    assert bpr["test_users"] == {**popular["test_users"], "users_1": 0, "users_2": 0, "users_5": 0}


def _activity(row: dict[str, Any]) -> dict[str, Any]:
    (key,) = [name for name in row if name.endswith("_by_activity")]
    return row[key]


def test_the_rating_protocols_report_stars(ratings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ratings.read_text().splitlines()
    (ratings.parent / "base").write_text("\n".join(lines[:600]))
    (ratings.parent / "test").write_text("\n".join(lines[600:]))
    parts = ["--train", str(ratings.parent / "base"), "--test", str(ratings.parent / "test")]
    for arguments, folds, rows in (
        (["rating", *parts], 1, 200),
        (["rating-5-fold", "--ratings", str(ratings)], 5, 800),
    ):
        assert main([*arguments, "--model", "svd", "als", "--set", "svd.epochs=2"]) == 0
        for row in json.loads(capsys.readouterr().out)["rows"]:
            assert (row["folds"], row["test_ratings"]) == (folds, rows)
            assert 0 < row["mae"] < row["rmse"] < 2.5


def test_ncf_files_are_judged_by_their_own_negatives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Item 1 is the most popular one that user 0 did not meet; its only negatives are items 4 and 5, met by nobody.
    (tmp_path / "train").write_text("0\t0\t5\t1\n0\t2\t5\t2\n1\t1\t3\t1\n1\t2\t3\t2\n2\t1\t3\t1\n2\t3\t3\t2\n")
    (tmp_path / "test").write_text("0\t1\t5\t9\n1\t3\t5\t9\n")
    (tmp_path / "negatives").write_text("(0,1)\t4\t5\n(1,3)\t4\t5\n")
    files = [word for name in ("train", "test", "negatives") for word in (f"--{name}", str(tmp_path / name))]
    assert main(["ncf-split", *files, "--model", "popularity"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["hr_10"], row["ndcg_10"], row["test_users"]) == (1.0, 1.0, 2)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("negatives", "(0,1)\t4\n(1,2)\t4\n", "not those of test"),
        ("negatives", "(0,1)\t0\n(1,3)\t4\n", "a negative is in train"),
        ("negatives", "(0,1)\tx\n(1,3)\t4\n", "not an item number"),
        ("test", "0\t0\t5\t9\n1\t3\t5\t9\n", "not those of test"),
        ("train", "0\t1\t5\t9\n1\t1\t5\t9\n", "an item is in train too"),
        ("train", "0 1 5 9\n", "1 fields in a row"),
    ],
)
def test_ncf_files_that_do_not_fit_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, complaint: str
) -> None:
    (tmp_path / "train").write_text("0\t0\t5\t1\n1\t1\t3\t1\n")
    (tmp_path / "test").write_text("0\t1\t5\t9\n1\t3\t5\t9\n")
    (tmp_path / "negatives").write_text("(0,1)\t4\t5\n(1,3)\t4\t5\n")
    (tmp_path / name).write_text(content)
    files = [word for part in ("train", "test", "negatives") for word in (f"--{part}", str(tmp_path / part))]
    assert main(["ncf-split", *files, "--model", "popularity"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_setting_is_chosen_on_the_validation(ratings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["random-75-25", "--ratings", str(ratings), "--model", "ease", "--choose", "ease.l2=1,50,5000"]
    assert main(arguments) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    tried = {values["l2"]: figure for values, figure in row["validation"]}
    assert list(tried) == [1, 50, 5000]
    assert row["config"]["l2"] == row["chosen_on_validation"]["l2"] == max(tried, key=tried.__getitem__)


def test_who_cannot_answer_strangers_is_refused_with_the_reason_and_the_others_run(
    ratings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["strong-generalisation", "--ratings", str(ratings), "--model", "bpr", "popularity"]
    assert main([*arguments, "--set", "bpr.epochs=1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["recommender"] for row in report["rows"]] == ["popularity"]
    assert "knows the users" in report["refused"]["bpr"]


def test_a_recipe_beyond_the_memory_limit_is_refused_before_it_starts(
    ratings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["leave-last-out", "--ratings", str(ratings), "--model", "ease", "--memory-limit", "0.0001"]
    assert main(arguments) == 2
    assert "the limit is 0.0 GB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("ease.l2", "is not MODEL.FIELD=VALUE"),
        ("bpr.factors=3", "bpr is not among the models"),
        ("ease.depth=3", "has no setting depth"),
        ("ease.l2=lots", "is no value"),
    ],
)
def test_a_setting_that_cannot_be_is_named(assignment: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        recipes_of(["ease"], [assignment], [])


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leave-last-out", "--ratings", str(tmp_path / "nothing.csv")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "nothing.csv" in said.err


def test_a_row_with_a_field_too_many_is_told_of_and_no_traceback(
    ratings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ratings.write_text(ratings.read_text() + "\n1\t2\t3\t4\t5\n")
    assert main(["leave-last-out", "--ratings", str(ratings), "--model", "popularity"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{ratings}: a row is not like the first one" in said


def test_settings_are_those_chosen_for_the_size_unless_others_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "u.data"
    rows = np.random.default_rng(0).choice(20 * 30, 300, replace=False)
    file.write_text("\n".join(f"{c // 30}\t{c % 30}\t{1 + c % 5}\t{t}" for t, c in enumerate(rows)))
    asked = ["leave-last-out", "--ratings", str(file), "--model", "ease"]
    found = []
    for more in ([], ["--defaults"], ["--set", "ease.l2=7.0"]):
        assert main([*asked, *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["rows"][0]["config"]["l2"])
    assert found == [chosen_settings("ease", 300)["l2"], EaseConfig().l2, 7.0]
    assert found[0] != found[1]
