from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from orchestration.training.dataset import ITEMS_FILE, TRAINING_FILE, USERS_FILE, load_training_data


def test_what_the_catalogue_says_of_a_film_is_its_content(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "movie_key": [4, 7, 9],
            "title": ["Slow War", "Heat", "Unnamed"],
            "year": pl.Series([1994, 2005, None], dtype=pl.Int32),
            "genres": [["Drama", "War"], ["Drama"], None],
        }
    ).write_parquet(tmp_path / ITEMS_FILE)
    pl.DataFrame({"user_id": [1], "user_key": [11]}).write_parquet(tmp_path / USERS_FILE)
    rated_at = pl.Series([1_000_000, 2_000_000], dtype=pl.Int64).cast(pl.Datetime("ms"))
    pl.DataFrame({"user_key": [11, 11], "movie_key": [9, 4], "rating": [4.0, 3.0], "rated_at": rated_at}).with_columns(
        user_features__rating_count=pl.lit(2)
    ).write_parquet(tmp_path / TRAINING_FILE)
    views = (("movie_features", "movie_key", 4), ("movie_content", "movie_key", 4), ("user_features", "user_key", 11))
    for view, key, known in views:
        history = {key: [known], "feature_timestamp": rated_at[:1], "rating_count": [1.0]}
        pl.DataFrame(history).write_parquet(tmp_path / f"{view}.parquet")
    content = load_training_data(tmp_path).features.item_content
    assert content is not None
    table = content.counts.toarray()
    words = [{name for name, count in zip(content.names, row, strict=True) if count} for row in table]
    assert words == [
        {"genre:Drama", "genre:War", "decade:1990", "title:slow", "title:war"},
        {"genre:Drama", "decade:2000", "title:heat"},
        {"title:unnamed"},
    ]
    np.testing.assert_array_equal(content.years, np.array([1994, 2005, np.nan], dtype=np.float32))
