"""The manifest that the graph is made of: parsed aside and replaced whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestration.defs.resources import dbt_project
from settings import Settings


def test_what_a_killed_parse_left_behind_is_not_taken_for_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home")
    for name in ("MARQUEE_WAREHOUSE", "DBT_TARGET_PATH", "DBT_LOG_PATH"):
        monkeypatch.setenv(name, "")
    cut_short = settings.home / "dbt" / "parsed" / ".123.part" / "manifest.json"
    cut_short.parent.mkdir(parents=True)
    cut_short.write_text('{"nodes": {"model.')
    # What dbt writes while it builds may be cut short as well.
    settings.dbt_target.mkdir(parents=True)
    (settings.dbt_target / "manifest.json").write_text('{"nodes": {"model.')
    manifest = json.loads(dbt_project(settings)[0].manifest_path.read_text())
    assert "model.marquee.dim_movies" in manifest["nodes"]
    assert (settings.dbt_target / "partial_parse.msgpack").exists()
