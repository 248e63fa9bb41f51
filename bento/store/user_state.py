"""What the app's store says of one person, as plain values: all that an answer needs to know of the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AppHistory:
    """A person's ratings as (movie_key, stars), the last written last, and the films that he sent away.

    ``rated_at`` goes with ``ratings``: the epoch seconds at which each movie was rated, as the app says; empty where
    only the order is known. ``forgotten`` is who was deleted: nothing that a model still knows of them may be used.
    """

    known: bool = False
    forgotten: bool = False
    ratings: tuple[tuple[int, float], ...] = ()
    dismissed: tuple[int, ...] = ()
    rated_at: tuple[int, ...] = ()


#: Of whom the store knows nothing.
NOBODY = AppHistory()
