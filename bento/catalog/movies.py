"""The films of a bundle as the API shows them: by id, by key, in the order of their ids, and by title."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.catalog.title_search import TitleIndex
from models.serving.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Row i of ``cards`` is item i: what of an answer's film does not depend on the request.

    ``edition`` is whose ids the films have; ``by_id`` knows a film's further ids too; ``in_order`` are the items by
    movie_id, ``ids_in_order`` int64 those ids; ``rating_counts`` int64 by item.
    """

    edition: str
    cards: tuple[dict[str, Any], ...]
    by_id: Mapping[int, int]
    by_key: Mapping[int, int]
    in_order: NDArray[np.int64]
    ids_in_order: NDArray[np.int64]
    rating_counts: NDArray[np.int64]
    titles: TitleIndex

    @classmethod
    def of(cls, bundle: Bundle) -> Catalogue:
        """Read the films off a bundle."""
        items = bundle.items
        cards = items.select(
            "movie_id", "movie_key", "imdb_id", "title", "year", "genres", "link_kind", link="link_url"
        )
        counts = items["rating_count"].fill_null(0).to_numpy().astype(np.int64)
        ids = items["movie_id"].to_numpy().astype(np.int64)
        order = np.argsort(ids, kind="stable")
        return cls(
            edition=str(bundle.manifest["data_snapshot"].get("edition", "unnamed")),
            cards=tuple(cards.to_dicts()),
            by_id=bundle.item_index,
            by_key={key: item for item, key in enumerate(items["movie_key"].to_list())},
            in_order=order,
            ids_in_order=ids[order],
            rating_counts=counts,
            titles=TitleIndex(items["title"].to_list(), items["year"].to_list(), counts.tolist()),
        )

    def film(self, item: int) -> dict[str, Any]:
        """One film with how often it was rated."""
        return {**self.cards[item], "rating_count": int(self.rating_counts[item])}
