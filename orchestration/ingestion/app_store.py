"""The app's store as one more raw source: people, ratings and events that came through the API, and what it answered.

People who asked to be forgotten are left out, and taken out of what the edition's files say again and again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from sqlalchemy import Select, func, make_url, select
from sqlalchemy.orm import Session

from bento.store.database import Store, StoreUnavailable
from bento.store.tables import APP, Event, Rating, ServedAnswer, Suppressed, User
from orchestration.errors import SourceError
from orchestration.ingestion.loader import transaction
from orchestration.ingestion.raw_tables import APP_TABLES, create_ledgers

#: Tables with people of the edition in them, whose rows go with the person.
_OF_PEOPLE = ("ml_ratings", "ml_tags", "ml_users")
#: Rows of the store that are Python's objects at a time.
_PART = 50_000
#: What stands in quarantine for a refused row of somebody who is forgotten: it is still counted.
_BLANKED = "(of somebody who asked to be forgotten)"


def app_version(url: str) -> str:
    """Return the version of the store's content: its last event, the number of erased people, and the last served list.

    A missing store has the version of an empty one. Raises ``SourceError`` when the store exists and cannot be read.
    """
    events, forgotten = app_progress(url)
    if not _is_there(url):
        return f"{events}-{forgotten}-0"
    with _Reading(url) as session:
        last = session.execute(select(func.coalesce(func.max(ServedAnswer.answer_id), 0))).scalar_one()
    return f"{events}-{forgotten}-{last}"


def app_progress(url: str) -> tuple[int, int]:
    """Return the number of the last event, and how many people asked for erasure. Raises ``SourceError``."""
    if not _is_there(url):
        return 0, 0
    with _Reading(url) as session:
        return _last_event(session), session.execute(select(func.count()).select_from(Suppressed)).scalar_one()


def ratings_since(url: str, event_id: int) -> int:
    """How many ratings were given, changed or taken back after an event. Raises ``SourceError``."""
    if not _is_there(url):
        return 0
    told = select(func.count()).where(Event.event_id > event_id, Event.kind.in_(("rated", "rating_deleted")))
    with _Reading(url) as session:
        return session.execute(told).scalar_one()


def forgotten_people(url: str) -> set[tuple[str, int]]:
    """(source, source_id) of everybody who asked to be forgotten. Raises ``SourceError``."""
    if not _is_there(url):
        return set()
    with _Reading(url) as session:
        rows = session.execute(select(Suppressed.source, Suppressed.source_id)).all()
    return {(source, number) for source, number in rows}


def ingest_app(con: duckdb.DuckDBPyConnection, url: str, edition: str) -> None:
    """Replace the ``raw.app_*`` tables and ``raw.ml_suppressed`` by what the store holds now; empty without a store.

    Raises ``SourceError``; all tables are then as they were.
    """
    frames = _read(url, edition) if _is_there(url) else {}
    create_ledgers(con)
    # Lists come as JSON, which is how DuckDB reads them from text.
    with transaction(con):
        for table in APP_TABLES:
            con.execute(f"CREATE OR REPLACE TABLE raw.{table.name} ({table.columns_sql})")
            frame = frames.get(table.name)
            if frame is not None and not frame.is_empty():
                con.register("frame", frame.to_arrow())
                con.execute(f"INSERT INTO raw.{table.name} SELECT * FROM frame ORDER BY ALL")
                con.unregister("frame")


def leave_out_forgotten(con: duckdb.DuckDBPyConnection) -> int:
    """Take the people of ``raw.ml_suppressed`` out of the edition's tables and out of quarantine; returns the rows.

    For after every ingest of the edition, whose files hold them for ever.
    """
    create_tables(con)
    left_out = 0
    with transaction(con):
        for name in _OF_PEOPLE:
            [(rows,)] = con.execute(
                f'DELETE FROM raw.{name} WHERE (edition, "userId") IN (SELECT edition, user_id FROM raw.ml_suppressed)'
            ).fetchall()
            left_out += rows
            con.execute(
                """
                UPDATE raw.quarantine SET content = ?
                WHERE table_name = ? AND EXISTS (
                    SELECT 1 FROM raw.ml_suppressed AS s
                    WHERE regexp_matches(content, '^"?' || s.user_id || '"?([,:|\t]|$)')
                )
                """,
                [_BLANKED, name],
            )
    return left_out


def create_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Make the tables of this source where they are missing; what they hold stays."""
    create_ledgers(con)
    for table in APP_TABLES:
        con.execute(f"CREATE TABLE IF NOT EXISTS raw.{table.name} ({table.columns_sql})")


def _read(url: str, edition: str) -> dict[str, pl.DataFrame]:
    """Read the store's content of one moment as frames with the tables' columns."""
    of_person = (User.source, User.source_id)
    queries: dict[str, Select[Any]] = {
        "app_users": select(*of_person, User.created_at),
        "app_ratings": select(
            *of_person, Rating.movie_key, Rating.edition, Rating.movie_id, Rating.rating, Rating.rated_at
        ).join(User, User.id == Rating.user_ref),
        "app_events": select(
            Event.event_id, Event.subject, Event.kind, Event.movie_key, Event.rating, Event.happened_at
        ),
        "ml_suppressed": select(Suppressed.source, Suppressed.source_id).where(
            Suppressed.source != APP, Suppressed.source == edition
        ),
    }
    names = {table.name: [column.name for column in table.columns] for table in APP_TABLES}
    queries["app_answers"] = select(*(getattr(ServedAnswer, name) for name in names["app_answers"]))
    with _Reading(url) as session:
        frames = {name: _frame(session, query, names[name]) for name, query in queries.items()}
        last = _last_event(session)
    # DuckDB's TIMESTAMP has no zone; the store's moments are UTC.
    zoned = pl.selectors.datetime(time_zone="*")
    frames = {name: frame.with_columns(zoned.dt.replace_time_zone(None)) for name, frame in frames.items()}
    return {**frames, "app_state": pl.DataFrame({"last_event_id": [last]})}


def _frame(session: Session, query: Select[Any], names: list[str]) -> pl.DataFrame:
    """Return the rows of a query, with at most one part of them at a time as Python objects."""
    parts = session.execute(query.execution_options(yield_per=_PART)).partitions(_PART)
    frames = [
        pl.DataFrame([tuple(row) for row in part], schema=names, orient="row", infer_schema_length=None)
        for part in parts
    ]
    return pl.concat(frames, how="vertical_relaxed") if frames else pl.DataFrame(schema=names)


class _Reading:
    """A session on the store that is read, with its failures as ``SourceError``; the store is closed at the end."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> Session:
        try:
            self._store = Store(self._url)
            self._transaction = self._store.reading()
            return self._transaction.__enter__()
        except StoreUnavailable as error:
            raise SourceError(f"{error}. Start it, or set MARQUEE_STORE_URL to where it is.") from error

    def __exit__(self, *error: object) -> None:
        try:
            self._transaction.__exit__(*error)  # type: ignore[arg-type]
        except StoreUnavailable as gone:
            raise SourceError(f"{gone}. Start it, or set MARQUEE_STORE_URL to where it is.") from gone
        finally:
            self._store.close()


def _last_event(session: Session) -> int:
    return int(session.execute(select(func.coalesce(func.max(Event.event_id), 0))).scalar_one())


def _is_there(url: str) -> bool:
    """Whether there is a store; asking an SQLite file that is not there would make it."""
    parsed = make_url(url)
    return parsed.get_backend_name() != "sqlite" or (parsed.database is not None and Path(parsed.database).is_file())
