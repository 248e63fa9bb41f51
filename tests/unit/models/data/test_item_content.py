from __future__ import annotations

import numpy as np
import polars as pl

from models.data.item_content import ItemContent


def test_items_in_another_order_keep_their_words_and_an_unknown_one_has_none() -> None:
    words = pl.DataFrame({"item": [0, 1, 1, 2], "word": ["genre:A", "genre:B", "tag:x", "tag:x"]})
    content = ItemContent.of(words, np.array([1990, 1991, 1992], dtype=np.float32))
    taken = content.take(np.array([2, -1, 0, 2]))
    assert taken.names == ("genre:A", "genre:B", "tag:x")
    assert taken.counts.toarray().tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert taken.years[[0, 2, 3]].tolist() == [1992, 1990, 1992]
    assert np.isnan(taken.years[1])
