"""What a run would fetch, and where it would take the rest from: the servers are only asked, nothing is written."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from orchestration.errors import SourceError
from orchestration.ingestion.http_download import look, read_note
from orchestration.ingestion.source_resolver import Place, place_of_dump, place_of_edition
from orchestration.storage.disk_space import MARGIN, readable
from settings import Settings

_HOUR_S = 3_600


@dataclass(frozen=True)
class Wanted:
    """One file, or edition, that a run needs: what would become of it, and why or from where.

    ``size``: bytes that would be fetched, None where the server does not say; 0 for all that is not to be fetched.
    """

    name: str
    state: Literal["generated", "mirror", "earlier download", "would be fetched", "cannot be had"]
    said: str
    size: int | None = 0


@dataclass(frozen=True)
class Plan:
    """All that a run needs. ``free``: bytes on the disk of the downloads."""

    wanted: tuple[Wanted, ...]
    free: int

    @property
    def to_fetch(self) -> tuple[Wanted, ...]:
        """What would be fetched."""
        return tuple(one for one in self.wanted if one.state == "would be fetched")

    @property
    def size(self) -> int:
        """Bytes that would be fetched, as far as the servers say."""
        return sum(one.size or 0 for one in self.wanted)

    @property
    def fits(self) -> bool:
        """Whether there is room, before anything is unpacked."""
        return not self.size or self.size + MARGIN <= self.free

    @property
    def feasible(self) -> bool:
        """Whether a run could have all it needs."""
        return self.fits and all(one.state != "cannot be had" for one in self.wanted)


def make_plan(settings: Settings) -> Plan:
    """Ask for everything that the settings want, one small request a file that a run would ask for, too."""
    places: list[tuple[str, Callable[[], Place]]] = [(settings.movielens, lambda: place_of_edition(settings))]
    places += [(dump, partial(place_of_dump, settings, dump)) for dump in settings.imdb_dumps]
    there = next(folder for folder in (settings.downloads, *settings.downloads.parents) if folder.exists())
    return Plan(tuple(_wanted(name, place) for name, place in places), shutil.disk_usage(there).free)


def plan_lines(plan: Plan, settings: Settings) -> list[str]:
    """Return a plan as text: one line per file, then what would be fetched in all."""
    width = max(len(one.name) for one in plan.wanted)
    lines = [f"{one.name:<{width}}  {one.state:<16}  {one.said}" for one in plan.wanted]
    count = len(plan.to_fetch)
    total = f"{readable(plan.size)} in {count} file{'' if count == 1 else 's'}" if count else "nothing"
    missing = sum(one.state == "cannot be had" for one in plan.wanted)
    lacking = f" and could not have {missing} that it needs" if missing else ""
    unknown = sum(one.size is None for one in plan.to_fetch)
    more = f", and {unknown} of a size that is not stated" if unknown else ""
    room = "" if plan.fits else f"; that does not fit with a margin of {readable(MARGIN)}"
    lines.append(
        f"A run would fetch {total}{more}{lacking}; {readable(plan.free)} are free in {settings.downloads}{room}."
        " Nothing was fetched."
    )
    return lines


def _wanted(name: str, place_of: Callable[[], Place]) -> Wanted:
    try:
        place = place_of()
    except SourceError as error:
        return Wanted(name, "cannot be had", str(error))
    if place.origin == "generated":
        return Wanted(name, "generated", f"{place.path}{'' if place.path.exists() else ', not yet'}")
    if place.origin == "mirror":
        return Wanted(name, "mirror", str(place.path))
    if not place.ask:
        return Wanted(name, "earlier download", f"{place.path}, {_when(place)}; not asked for")
    try:
        seen = look(place.url, place.path)
    except SourceError as error:
        if place.path.is_file():
            return Wanted(name, "earlier download", f"{place.path}, {_when(place)}: {error}")
        return Wanted(name, "cannot be had", str(error))
    if seen.unchanged:
        return Wanted(name, "earlier download", f"{place.path}, unchanged at {place.url}")
    if seen.size is None:
        return Wanted(name, "would be fetched", f"{place.url}, size not stated", None)
    rest = seen.size - seen.have
    went_on = f", of which {readable(seen.have)} are here" if seen.have else ""
    replaced = ", has changed" if place.path.is_file() else ""
    return Wanted(name, "would be fetched", f"{place.url}, {readable(seen.size)}{went_on}{replaced}", rest)


def _when(place: Place) -> str:
    note = read_note(place.path)
    if note is None:
        return "without a note"
    hours = max(0.0, time.time() - note.looked_at) / _HOUR_S
    return f"looked at {hours:.0f} hours ago" if hours < 48 else f"looked at {hours / 24:.0f} days ago"
