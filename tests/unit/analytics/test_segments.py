"""Segments of users: what makes them, that they come out the same, and that their names tell them apart."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from orchestration.analytics.user_segments import segment_users

GENRES = ("action", "drama", "film_noir", "horror")


def habits(kinds: list[tuple[int, int, str]], each: int = 40, seed: int = 3) -> pl.DataFrame:
    """``each`` users a kind: (ratings, days since the last, genre that they keep to), all a little unlike."""
    draw = np.random.default_rng(seed)
    rows = []
    for ratings, days, genre in kinds:
        for _ in range(each):
            count = int(ratings * draw.uniform(0.8, 1.2)) + 1
            shares = {f"genre_share_{name}": float(draw.uniform(0.05, 0.15)) for name in GENRES}
            shares[f"genre_share_{genre}"] = float(draw.uniform(0.7, 0.9))
            rows.append(
                {
                    "user_key": len(rows) + 1,
                    "rating_count": count,
                    "active_days": 1 + count // 10,
                    "days_since_last": int(days * draw.uniform(0.8, 1.2)),
                    "rating_mean": float(draw.uniform(3, 4)),
                    "mean_release_year": None if len(rows) % 7 == 0 else float(draw.uniform(1985, 1995)),
                    "film_rating_count": float(draw.uniform(50, 80)),
                    **shares,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


KINDS = [(1000, 5, "horror"), (20, 2000, "drama"), (100, 300, "film_noir")]


def test_users_alike_share_a_segment_and_its_name_says_what_sets_them_apart() -> None:
    found = segment_users(habits(KINDS), seed=1, n_segments=3)
    by_kind = found.users.sort("user_key")["segment_name"].to_numpy().reshape(len(KINDS), -1)
    assert [set(names) for names in by_kind] == [
        {"Rate a lot, lately, more Horror"},
        {"Rate little, long ago, more Drama"},
        {"Rate a fair amount, some time ago, more Film-Noir"},
    ]
    assert found.segments["users"].sum() == found.users.height == 120
    assert found.segments.row(0, named=True)["rating_count"] > 500


def test_the_same_users_in_another_order_get_the_same_segments() -> None:
    drawn = habits([(n, d, g) for n in (20, 300) for d in (5, 400) for g in GENRES], each=25)
    first, second = (
        segment_users(frame, seed=7).users for frame in (drawn, drawn.sample(fraction=1, shuffle=True, seed=5))
    )
    assert first.equals(second)
    assert first["segment"].n_unique() == 6
    assert first.group_by("segment").agg(pl.col("segment_name").n_unique())["segment_name"].to_list() == [1] * 6
    assert first["segment_name"].n_unique() == 6


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_handful_of_users_or_none_at_all_is_no_error(count: int) -> None:
    found = segment_users(habits(KINDS, each=1).head(count), seed=1)
    assert found.users.height == count
    assert found.users.columns == ["user_key", "segment", "segment_name", "distance"]
    assert found.users["segment_name"].n_unique() == count


def test_users_without_any_difference_are_one_segment() -> None:
    alike = pl.concat([habits(KINDS[:1], each=1)] * 9).with_columns(user_key=pl.int_range(9))
    found = segment_users(alike, seed=1)
    assert found.users["segment"].to_list() == [1] * 9
    assert found.users["distance"].max() == 0
