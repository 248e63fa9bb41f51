"""Another version beside the promoted one: it answers a share of the users, or works in their shadow.

A user is dealt to an arm by a hash of the experiment's name and who he is: always to the same one, on every worker and
after every restart, without anything being kept.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bento.bundles.hot_reload import load_served
from bento.bundles.loaded_bundle import Served
from bento.errors import NotServable
from bento.store.users import Who
from settings import Settings

logger = logging.getLogger("marquee.serving")

#: Shadow answers that may wait to be made; beyond that they are left out.
SHADOWS = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers: the bundle, the experiment and arm that the user is in, and the bundle in its shadow.

    ``instead_of`` is the promoted bundle where another one answers.
    """

    served: Served | None
    experiment: str | None = None
    arm: Literal["champion", "challenger"] | None = None
    shadow: Served | None = None
    instead_of: Served | None = None

    def over(self, served: Served | None) -> Choice:
        """Return the same choice with another view of its bundle."""
        return replace(self, served=served)


class Experiment:
    """Deals users. ``challenger`` is None where there is no experiment, or its version cannot be served."""

    def __init__(
        self, mode: Literal["off", "ab", "shadow"], name: str, share: float, challenger: Served | None
    ) -> None:
        self.mode, self.name, self.share, self.challenger = mode, name, share, challenger

    @classmethod
    def of(cls, settings: Settings) -> Experiment:
        """Make the experiment that the settings ask for and load its version, which takes seconds.

        A version that cannot be served is logged as an error, and the promoted one answers everybody.
        """
        name = settings.ab_name or settings.ab_version
        if settings.ab_mode == "off":
            return cls("off", name, 0.0, None)
        challenger: Served | None = None
        try:
            challenger = load_served(settings.models / settings.ab_version, settings.feast)
        except NotServable as error:
            logger.error("experiment %s: %s The promoted version answers everybody.", name, error)
        else:
            # As the bundle that is served: the collector need not walk it.
            gc.collect()
            gc.freeze()
            share = f"{settings.ab_share:.0%} of the users"
            logger.info("experiment %s (%s): %s, %s", name, settings.ab_mode, settings.ab_version, share)
        return cls(settings.ab_mode, name, settings.ab_share, challenger)

    def rests(self, champion: Served | None) -> str | None:
        """Why nobody is dealt to the challenger while this bundle is the promoted one; None where users are."""
        if self.mode == "off":
            return "there is none"
        if self.challenger is None:
            return "its version cannot be served"
        if champion is None:
            return "no version is promoted"
        if champion.bundle.version == self.challenger.bundle.version:
            return "its version is the promoted one"
        if champion.catalogue.edition != self.challenger.catalogue.edition:
            return "its version is of another edition, whose users are others"
        return None

    def choice(self, champion: Served | None, user_id: int | None) -> Choice:
        """Who answers a user; whoever is nobody's user gets the promoted version."""
        if user_id is None or champion is None or self.challenger is None or self.rests(champion) is not None:
            return Choice(champion)
        is_dealt = _place(self.name, Who.of(user_id, champion.catalogue.edition)) < self.share
        if self.mode == "shadow":
            return Choice(champion, shadow=self.challenger if is_dealt else None)
        if is_dealt:
            return Choice(self.challenger, self.name, "challenger", instead_of=champion)
        return Choice(champion, self.name, "champion")

    def choices(self, champion: Served | None, user_ids: Sequence[int]) -> list[tuple[Choice, list[int]]]:
        """Who answers which of several users, as places in ``user_ids``: each choice once."""
        if champion is None or self.rests(champion) is not None:
            return [(Choice(champion), list(range(len(user_ids))))]
        parts: dict[tuple[str | None, bool], tuple[Choice, list[int]]] = {}
        for place, user_id in enumerate(user_ids):
            choice = self.choice(champion, user_id)
            parts.setdefault((choice.arm, choice.shadow is None), (choice, []))[1].append(place)
        return list(parts.values())


class Shadows:
    """A thread that makes what nobody waits for, one after the other; what comes too fast is left out.

    ``tell`` is told ``made``, ``failed`` or ``left_out``.
    """

    def __init__(self, tell: Callable[[str], None], most: int = SHADOWS) -> None:
        self._tell = tell
        self._acts: queue.Queue[Callable[[], None] | None] = queue.Queue(most)
        self._thread = threading.Thread(target=self._make, name="shadow-answers", daemon=True)
        self._is_over = threading.Event()

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def add(self, act: Callable[[], None]) -> None:
        """Have it done some time, or not at all."""
        try:
            self._acts.put_nowait(act)
        except queue.Full:
            self._tell("left_out")

    def stop(self) -> None:
        """End the thread; what waits is left out."""
        self._is_over.set()
        if self._thread.is_alive():
            # Where the queue is full the thread is awake, and looks at the event by itself.
            with contextlib.suppress(queue.Full):
                self._acts.put_nowait(None)
            self._thread.join()

    def _make(self) -> None:
        while not self._is_over.is_set():
            act = self._acts.get()
            if act is None:
                return
            try:
                act()
            except Exception:
                logger.exception("a shadow answer could not be made")
                self._tell("failed")
            else:
                self._tell("made")


def overlap(served: Sequence[int], other: Sequence[int]) -> float | None:
    """Return the share of the longer list's movies that are in both lists; None if both are empty.

    >>> overlap([1, 2, 3, 4], [4, 1, 9, 8])
    0.5
    """
    longer = max(len(served), len(other))
    return len(set(served) & set(other)) / longer if longer else None


def _place(experiment: str, who: Who) -> float:
    """Where in [0, 1) a person stands in an experiment."""
    digest = hashlib.blake2b(f"{experiment}\0{who.source}\0{who.source_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
