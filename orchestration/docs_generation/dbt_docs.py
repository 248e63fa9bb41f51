"""dbt's docs as one static page, with every model, column, test and analysis: what is asked and what it is made of."""

from __future__ import annotations

import os
from pathlib import Path

from environment import adopt_environment
from orchestration.lib.dbt_runner import failures
from orchestration.storage.warehouse import exclusive
from settings import PROJECT_ROOT, Settings

#: What narrow screens need beside dbt's own style.
NARROW = Path(__file__).with_name("narrow.css")


class SiteError(RuntimeError):
    """dbt could not write its docs; the message is its own."""


def build_site(settings: Settings) -> Path:
    """Write the page and return its path.

    With a warehouse the page has each table's columns as they are there, and the lock is held while dbt looks; without
    one it says what the project says. Raises ``SiteError``.
    """
    from dbt.cli.main import dbtRunner

    adopt_environment(settings)
    project = os.fspath(PROJECT_ROOT / "dbt_project")
    target = settings.docs / "dbt"
    target.mkdir(parents=True, exist_ok=True)
    switches = ["--project-dir", project, "--profiles-dir", project, "--target-path", os.fspath(target)]
    # dbt takes a yml of its last page as it was where the file's time is the same.
    switches += ["--no-partial-parse"]
    built = settings.warehouse.exists()
    if not built:
        # dbt would make a warehouse by looking at it.
        switches += ["--empty-catalog", "--no-compile"]
        parsed = dbtRunner().invoke(["--quiet", "parse", *switches[:7]])
        if not parsed.success:
            raise SiteError(failures(parsed))
    with exclusive(settings):
        done = dbtRunner().invoke(["--quiet", "docs", "generate", "--static", *switches])
    if not done.success:
        raise SiteError(failures(done))
    page = target / "static_index.html"
    page.write_text(readable_on_a_phone(page.read_text(encoding="utf-8")), encoding="utf-8")
    return page


def readable_on_a_phone(page: str) -> str:
    """dbt's page with our rules for narrow screens at the end of its head. Raises ``SiteError`` where it has none."""
    head, end, body = page.partition("</head>")
    if not end:
        raise SiteError("dbt's page has no head any more: the rules for phones have no place in it")
    return f"{head}<style>{NARROW.read_text(encoding='utf-8')}</style>{end}{body}"
