"""The log of served answers: rows under random keys, which go with the person they were given to."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from bento.store.tables import Pseudonym, ServedAnswer, Suppressed

#: How many rows one deletion of old ones takes, so that other writers wait for a moment only.
SLICE = 5_000

Name = tuple[str, int]


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One answer for the log: ``name`` is (source, source_id) of who got it, None for nobody that is known.

    ``values`` are the other columns of ``answers`` by name.
    """

    name: Name | None
    values: dict[str, Any]


def keep_answers(session: Session, rows: Sequence[AnswerRow]) -> int:
    """Add answers to the log; returns how many were left out because their person asked to be forgotten."""
    names = {row.name for row in rows if row.name is not None}
    subjects = _known(session, names)
    for name in sorted(names - set(subjects)):
        # Who is being deleted at this moment has no row that would make the deletion and this wait for each other.
        wait_for_others(session, name)
    gone = _forgotten(session, names)
    subjects |= subjects_of(session, names - gone - set(subjects))
    kept = [
        {**row.values, "subject": None if row.name is None else subjects[row.name]}
        for row in rows
        if row.name not in gone
    ]
    if kept:
        session.execute(insert(ServedAnswer), kept)
    return len(rows) - len(kept)


def subjects_of(session: Session, names: Collection[Name]) -> dict[Name, str]:
    """Return the key that each person has in the logs, creating those that are missing."""
    found = _known(session, names)
    if missing := sorted(set(names) - set(found)):
        made = [{"subject": secrets.token_hex(16), "source": source, "source_id": number} for source, number in missing]
        dialect: Any = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        # Another writer may make one at the same time; then his stands.
        session.execute(dialect.insert(Pseudonym).on_conflict_do_nothing(index_elements=["source", "source_id"]), made)
        found |= _known(session, missing)
    return found


def wait_for_others(session: Session, name: Name) -> None:
    """Make or delete a person one after another: there may be no row yet that could be locked."""
    if session.get_bind().dialect.name == "postgresql":
        source, number = name
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{source} {number}", 0))))


def forget_old_answers(session: Session, before: datetime) -> int:
    """Delete answers given before a moment, at most ``SLICE`` of them; returns how many."""
    oldest = select(ServedAnswer.answer_id).where(ServedAnswer.answered_at < before).limit(SLICE)
    ids = session.execute(oldest).scalars().all()
    if ids:
        session.execute(delete(ServedAnswer).where(ServedAnswer.answer_id.in_(ids)))
    return len(ids)


def _known(session: Session, names: Collection[Name]) -> dict[Name, str]:
    if not names:
        return {}
    query = select(Pseudonym.source, Pseudonym.source_id, Pseudonym.subject).where(
        tuple_(Pseudonym.source, Pseudonym.source_id).in_(list(names))
    )
    return {(source, number): subject for source, number, subject in session.execute(query)}


def _forgotten(session: Session, names: Collection[Name]) -> set[Name]:
    if not names:
        return set()
    query = select(Suppressed.source, Suppressed.source_id).where(
        tuple_(Suppressed.source, Suppressed.source_id).in_(list(names))
    )
    return {(source, number) for source, number in session.execute(query)}
