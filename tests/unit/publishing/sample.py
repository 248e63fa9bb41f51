"""The published copy of the embedded sample, built once for tests that hold answers and pages against it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest import mock

from benchmarks.pipeline import stages
from orchestration.ingestion.streaming import ingest_streaming
from orchestration.publishing.duckdb_copy import publish
from orchestration.storage.warehouse import connect, exclusive
from orchestration.synthetic.sample import SampleSpec, write_sample
from settings import Settings


def publish_sample(folder: Path) -> Settings:
    """From the sample's files to its published copy, without a graph around it; returns the settings of its home."""
    from orchestration.defs.warehouse.dbt_assets import mart_comments, mart_layouts
    from orchestration.lib.dbt_project import MartTranslator, dbt_project
    from orchestration.lib.dbt_runner import Dbt, failures

    settings = Settings(home=folder / "home", movielens="sample")
    settings.home.mkdir(parents=True)
    files = folder / "files"
    write_sample(files, SampleSpec())
    # dbt's profile reads the environment, which other tests of this process have plans of their own for.
    with mock.patch.dict(os.environ):
        stages.ingest(settings, files, stages._Parts())
        with connect(settings) as con:
            ingest_streaming(con, files / "streaming")
        project, parsed = dbt_project(settings)
        manifest = json.loads(project.manifest_path.read_text())
        with exclusive(settings):
            dbt = Dbt(project, manifest, MartTranslator(), parsed)
            done = dbt.invoke(["--exclude-resource-type", "test"], lambda _: None)
        assert done.success, failures(done)
        with connect(settings) as con:
            publish(con, settings, comments=mart_comments(manifest), layouts=mart_layouts(manifest))
    return settings
