"""dbt's docs as one static page, with every model, column, test and analysis: what is asked and what it is made of."""

from __future__ import annotations

import os
from pathlib import Path

from orchestration.defs.dbt import failures
from orchestration.defs.resources import quiet_environment
from orchestration.warehouse import exclusive
from settings import PROJECT_ROOT, Settings


class SiteError(RuntimeError):
    """dbt could not write its docs; the message is its own."""


def build_site(settings: Settings) -> Path:
    """Write the page and return its path.

    With a warehouse the page has each table's columns as they are there, and the lock is held while dbt looks; without
    one it says what the project says. Raises ``SiteError``.
    """
    from dbt.cli.main import dbtRunner

    os.environ.update(quiet_environment(settings))
    project = os.fspath(PROJECT_ROOT / "dbt_project")
    target = settings.docs / "dbt"
    target.mkdir(parents=True, exist_ok=True)
    switches = ["--project-dir", project, "--profiles-dir", project, "--target-path", os.fspath(target)]
    built = settings.warehouse.exists()
    if not built:
        # dbt would make a warehouse by looking at it.
        switches += ["--empty-catalog", "--no-compile"]
        parsed = dbtRunner().invoke(["--quiet", "parse", *switches[:6]])
        if not parsed.success:
            raise SiteError(failures(parsed))
    with exclusive(settings):
        done = dbtRunner().invoke(["--quiet", "docs", "generate", "--static", *switches])
    if not done.success:
        raise SiteError(failures(done))
    return target / "static_index.html"
