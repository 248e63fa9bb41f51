"""The tables of the app's store: people, their ratings, and the log of everything that happened.

A user is named by ``(source, source_id)``, as in the warehouse: ``app`` and a number of the store's own, or an edition
and its userId. A film is named by the platform's ``movie_key``, which is given once and outlives a change of edition.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: The source of users that were created through the API.
APP = "app"
#: Their ids start here, above every userId of MovieLens; it and those after it fit 32 bits, as the editions' ids do.
FIRST_APP_USER_ID = 1_000_000_000

#: What an app reports, and what the store itself notes with each write.
APP_EVENTS = ("shown", "viewed", "clicked", "dismissed", "watchlisted")
OWN_EVENTS = ("user_created", "user_changed", "rated", "rating_deleted")

# SQLite counts up only in a column that is declared INTEGER; its integers have 64 bits all the same.
_Id = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its zone, kept as UTC; SQLite itself knows no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC; raise ``ValueError`` for one without a time zone, which is ambiguous."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The root of the tables."""


class UserNumber(Base):
    """One number given to an app's user; kept after the user has gone, so that nobody gets it again."""

    __tablename__ = "user_numbers"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)


class User(Base):
    """One person who is known to the app; somebody of an edition is here once he has written something.

    ``version`` is the event of the last change, which never comes twice: the ETag.
    """

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("source", "source_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(String(40))
    source_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(BigInteger)


class Subject(Base):
    """The random key under which a person stands in the event log; without this row nobody can tell whose events."""

    __tablename__ = "subjects"

    subject: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_ref: Mapped[int] = mapped_column(_Id, ForeignKey("users.id", ondelete="CASCADE"), unique=True)


class Rating(Base):
    """The rating that a user gives a film now; edition and movie_id are the name that the app used for the film."""

    __tablename__ = "ratings"
    __table_args__ = (
        CheckConstraint(
            "rating >= 0.5 AND rating <= 5 AND rating * 2 = CAST(rating * 2 AS INTEGER)", name="rating_in_half_steps"
        ),
        Index("ratings_newest_first", "user_ref", "version"),
    )

    user_ref: Mapped[int] = mapped_column(_Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    movie_key: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    edition: Mapped[str] = mapped_column(String(40))
    movie_id: Mapped[int] = mapped_column(BigInteger)
    rating: Mapped[float] = mapped_column(Numeric(2, 1, asdecimal=False))
    rated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(BigInteger)


class Event(Base):
    """One thing that happened; rows are only ever added, which the database itself enforces.

    ``subject`` refers to no table on purpose: a deleted person's mapping goes, his events stay and are nobody's.
    """

    __tablename__ = "events"
    __table_args__ = (Index("events_of_a_subject", "subject", "kind"), {"sqlite_autoincrement": True})

    event_id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    subject: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(20))
    movie_key: Mapped[int | None] = mapped_column(BigInteger)
    rating: Mapped[float | None] = mapped_column(Numeric(2, 1, asdecimal=False))
    happened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Pseudonym(Base):
    """The random key under which a person stands in the logs, also one who only reads; it goes with the person.

    Of somebody who writes it is that of ``subjects``.
    """

    __tablename__ = "pseudonyms"
    __table_args__ = (UniqueConstraint("source", "source_id"),)

    subject: Mapped[str] = mapped_column(String(32), primary_key=True)
    source: Mapped[str] = mapped_column(String(40))
    source_id: Mapped[int] = mapped_column(BigInteger)


class ServedAnswer(Base):
    """One answer that was given, or that another version would have given; what a person got goes with the person.

    ``movie_keys`` and ``scores`` are lists as JSON, best first. ``arm`` is null outside of an experiment.
    """

    __tablename__ = "answers"
    __table_args__ = ({"sqlite_autoincrement": True},)

    answer_id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    answered_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    request_id: Mapped[str] = mapped_column(String(64))
    route: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str | None] = mapped_column(
        String(32), ForeignKey("pseudonyms.subject", ondelete="CASCADE"), index=True
    )
    model_version: Mapped[str] = mapped_column(String(200))
    data_snapshot: Mapped[str] = mapped_column(Text)
    experiment: Mapped[str | None] = mapped_column(String(100))
    arm: Mapped[str | None] = mapped_column(String(20))
    fallback: Mapped[str | None] = mapped_column(String(40))
    latency_ms: Mapped[float] = mapped_column(Float)
    overlap: Mapped[float | None] = mapped_column(Float)
    movie_keys: Mapped[str] = mapped_column(Text)
    scores: Mapped[str] = mapped_column(Text)


class Suppressed(Base):
    """One person who asked to be forgotten: no ingest and no model may bring him back."""

    __tablename__ = "suppressed"

    source: Mapped[str] = mapped_column(String(40), primary_key=True)
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    suppressed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class IdempotencyKey(Base):
    """The answer that a write with this key got, for when it is sent again; it goes with the person it speaks of."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[str | None] = mapped_column(Text)
    body: Mapped[str | None] = mapped_column(Text)
    user_ref: Mapped[int | None] = mapped_column(_Id, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class ApiKey(Base):
    """One key to log in with, as argon2's hash; it belongs to a user, or to an app or an admin, who are no users."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            "(role = 'user' AND user_ref IS NOT NULL) OR (role IN ('app', 'admin') AND user_ref IS NULL)",
            name="a_users_key_has_a_user",
        ),
    )

    key_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(10))
    user_ref: Mapped[int | None] = mapped_column(_Id, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    label: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Login(Base):
    """One login that can be refreshed: the hash of the token that does it, another one after each use."""

    __tablename__ = "logins"

    login_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.key_id", ondelete="CASCADE"), index=True)
    refresh_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
