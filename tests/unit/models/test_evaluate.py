from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from models.evaluate import leave_last_out, main
from models.ratings_file import RatingsFileError, read_ratings

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


def test_the_command_prints_a_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice(40 * 150, 800, replace=False)
    lines = [f"{c // 150}\t{c % 150}\t4\t{t}" for t, c in enumerate(codes)]
    (tmp_path / "u.data").write_text("\n".join(lines))
    arguments = ["leave-last-out", "--ratings", str(tmp_path / "u.data"), "--threads", "1", "--seed", "1", "2"]
    assert main([*arguments, "--model", "popularity", "ease", "neumf"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["protocol"] == "leave-last-out"
    assert report["data"]["interactions"] == 800
    assert len(report["data"]["sha256"]) == 64
    rows = report["rows"]
    assert [(row["recommender"], row["seed"]) for row in rows] == [
        (name, seed) for seed in (1, 2) for name in ("popularity", "ease", "neumf")
    ]
    assert all(0 <= row["ndcg_10"] <= row["hr_10"] <= 1 for row in rows)
    assert rows[2]["config"]["use_features"] is False


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leave-last-out", "--ratings", str(tmp_path / "nothing.csv")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "nothing.csv" in said.err


@pytest.mark.real_data
def test_popularity_and_ease_on_ml_100k_give_the_known_figures() -> None:
    root = Path(os.environ.get("MARQUEE_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
    file = root / "ml-100k" / "u.data"
    if not file.is_file():
        pytest.skip(f"{file} is missing: real data is not beside the project")
    popularity, ease = leave_last_out(file, ["popularity", "ease"], [42])["rows"]
    # Full rankings depend on no drawn negatives.
    assert popularity["full_ndcg_10"] == pytest.approx(0.0250, abs=0.0005)
    assert ease["full_ndcg_10"] == pytest.approx(0.0416, abs=0.001)
    assert ease["recall_20"] == pytest.approx(0.1516, abs=0.002)
    assert ease["hr_10"] > popularity["hr_10"] + 0.2
