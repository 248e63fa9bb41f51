"""The first tables: users, subjects, ratings, events, the suppression list, idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables, and the triggers that keep the event log append-only."""
    op.create_table(
        "user_numbers", sa.Column("number", _ID, primary_key=True, autoincrement=True), sqlite_autoincrement=True
    )
    op.create_table(
        "users",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("source_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(100)),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("source", "source_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "subjects",
        sa.Column("subject", sa.String(32), primary_key=True),
        sa.Column("user_ref", _ID, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, unique=True),
    )
    op.create_table(
        "ratings",
        sa.Column("user_ref", _ID, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("movie_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("edition", sa.String(40), nullable=False),
        sa.Column("movie_id", sa.BigInteger, nullable=False),
        sa.Column("rating", sa.Numeric(2, 1), nullable=False),
        sa.Column("rated_at", _MOMENT, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "rating >= 0.5 AND rating <= 5 AND rating * 2 = CAST(rating * 2 AS INTEGER)", name="rating_in_half_steps"
        ),
    )
    op.create_index("ratings_newest_first", "ratings", ["user_ref", "version"])
    op.create_table(
        "events",
        sa.Column("event_id", _ID, primary_key=True, autoincrement=True),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("movie_key", sa.BigInteger),
        sa.Column("rating", sa.Numeric(2, 1)),
        sa.Column("happened_at", _MOMENT, nullable=False),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_a_subject", "events", ["subject", "kind"])
    op.create_table(
        "suppressed",
        sa.Column("source", sa.String(40), primary_key=True),
        sa.Column("source_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("suppressed_at", _MOMENT, nullable=False),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", sa.Text),
        sa.Column("body", sa.Text),
        sa.Column("user_ref", _ID, sa.ForeignKey("users.id", ondelete="CASCADE")),
        sa.Column("created_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_idempotency_keys_user_ref", "idempotency_keys", ["user_ref"])
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """Remove everything."""
    for table in ("idempotency_keys", "suppressed", "events", "ratings", "subjects", "users", "user_numbers"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION events_are_append_only()")


_APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER events_refuse_{act} BEFORE {act.upper()} ON events"
        " BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END"
        for act in ("update", "delete")
    ],
    "postgresql": [
        (
            "CREATE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'the event log is append-only'; END $$"
        ),
        (
            "CREATE TRIGGER events_refuse_change BEFORE UPDATE OR DELETE ON events"
            " FOR EACH ROW EXECUTE FUNCTION events_are_append_only()"
        ),
        (
            "CREATE TRIGGER events_refuse_truncate BEFORE TRUNCATE ON events"
            " FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only()"
        ),
    ],
}
