"""A published copy with a few streaming titles alone, for whoever asks it the questions of the catalogues."""

from __future__ import annotations

from decimal import Decimal

from orchestration.publishing.duckdb_copy import publish
from orchestration.publishing.manifest import Publication
from orchestration.storage.warehouse import connect
from settings import Settings

#: title_id, platform, type, title, release_year, duration, duration_type, score; each has the actors of the letters.
STREAMED = [
    ("n1", "netflix", "movie", "the lantern keeper", 1999, 120, "min", Decimal("4.0"), "ab"),
    ("n2", "netflix", "movie", "hush", 1999, 90, "min", Decimal("3.0"), "b"),
    ("n3", "netflix", "tv show", "long winter", 2001, 4, "season", None, "bc"),
    ("h1", "hulu", "movie", "lantern keeper ii", 2001, 95, "min", Decimal("3.6"), "c"),
]


def publish_titles(settings: Settings, titles: list[tuple[object, ...]] | None = None) -> Publication:
    """Publish these titles as the home's newest copy."""
    rows = STREAMED if titles is None else titles
    with connect(settings) as con:
        con.execute("CREATE SCHEMA IF NOT EXISTS marts")
        con.execute(
            "CREATE OR REPLACE TABLE marts.dim_streaming_titles (title_id VARCHAR, platform VARCHAR, type VARCHAR,"
            " title VARCHAR, release_year INTEGER, duration INTEGER, duration_type VARCHAR, score DECIMAL(4, 3),"
            " source_title VARCHAR, score_source VARCHAR, movie_key BIGINT, movie_title VARCHAR,"
            " match_confidence DECIMAL(3, 2))"
        )
        con.execute("CREATE OR REPLACE TABLE marts.bridge_title_cast (title_id VARCHAR, actor VARCHAR)")
        for *title, actors in rows:
            con.execute(
                "INSERT INTO marts.dim_streaming_titles SELECT ?, ?, ?, ?, ?, ?, ?, ?, upper(title), 'users', 7,"
                " 'The Lantern Keeper (Lyktvakten)', 0.95 FROM (SELECT ? AS title)",
                [*title, title[3]],
            )
            for actor in str(actors):
                con.execute("INSERT INTO marts.bridge_title_cast VALUES (?, ?)", [title[0], actor])
        return publish(con, settings, comments={})
