"""What the dbt project says of the published copy: comments of every mart, and layouts of some."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest import mock

from orchestration.defs.warehouse.dbt_assets import mart_comments, mart_layouts
from orchestration.lib.dbt_project import dbt_project
from orchestration.publishing.manifest import Layout
from settings import Settings


def test_a_marts_meta_says_how_it_lies_in_the_published_copy(tmp_path: Path) -> None:
    with mock.patch.dict(os.environ):
        manifest = json.loads(dbt_project(Settings(home=tmp_path / "home"))[0].manifest_path.read_text())
    layouts, comments = mart_layouts(manifest), mart_comments(manifest)
    assert layouts["fct_ratings"] == Layout(("rated_at", "user_key", "movie_key"), "rated_at")
    named = {(mart, column) for mart, layout in layouts.items() for column in layout.sorted_by if column}
    assert {column for mart, column in named if column not in comments[mart]} == set()
