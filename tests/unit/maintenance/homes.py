"""Homes with a little of everything that upkeep is about."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from models.serving.bundle import write_pointer
from orchestration.publishing.duckdb_copy import publish
from orchestration.storage.home import prepare
from orchestration.storage.warehouse import connect
from settings import Settings
from tests.unit.bento.conftest import write_tiny_bundle

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
KEYS = [(1, "sample", "7"), (2, "sample", "9")]


def age(path: Path, days: float) -> None:
    """Make a file, or a folder with all in it, look as if it was written so many days before NOW."""
    written = (NOW - timedelta(days=days)).timestamp()
    for found in (path, *path.rglob("*")):
        os.utime(found, (written, written))


def make_home(folder: Path, *, bundles: int = 1) -> tuple[Settings, list[str]]:
    """Make a home of the sample with keys, a published copy and bundles, oldest first; the last two were promoted."""
    settings = Settings(home=folder)
    prepare(settings)
    with connect(settings) as con:
        con.execute("CREATE SCHEMA intermediate; CREATE SCHEMA marts")
        con.execute("CREATE TABLE intermediate.int_user_keys (user_key BIGINT, source VARCHAR, source_id VARCHAR)")
        con.executemany("INSERT INTO intermediate.int_user_keys VALUES (?, ?, ?)", KEYS)
        con.execute("CREATE TABLE marts.viewers AS SELECT user_key FROM intermediate.int_user_keys")
        publish(con, settings, comments={})
    versions = []
    for number in range(bundles):
        versions.append(write_tiny_bundle(settings.models, snapshot=str(number)))
        age(settings.models / versions[-1], days=100 - number)
    for version in versions[-2:]:
        write_pointer(settings.serving_pointer, version)
    return settings, versions


def put(path: Path, text: str = "content") -> Path:
    """Write a file and create its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def put_bento(settings: Settings, version: str, code: str, days: float) -> Path:
    """Write what BentoML leaves in its store for a bundle and a version of the code."""
    model = put(settings.bentoml / "models" / "marquee_bundle" / version / "model.yaml").parent
    bento = settings.bentoml / "bentos" / "marquee" / f"{version}-{code}"
    put(bento / "bento.yaml", f"args:\n  bundle: marquee_bundle:{version}\n")
    put(settings.bentoml / "bentos" / "marquee" / "latest", bento.name)
    put(settings.bentoml / "models" / "marquee_bundle" / "latest", version)
    age(model, days)
    age(bento, days)
    return bento
