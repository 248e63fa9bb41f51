"""dbt's docs as one page."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from orchestration.analysts.tables import MADE_MARTS
from orchestration.documentation.dictionary import marts
from orchestration.documentation.site import build_site
from orchestration.questions.analyses import analyses
from settings import Settings


def test_the_docs_of_a_project_that_was_never_built_hold_every_mart_and_analysis(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with mock.patch.dict(os.environ):
        page = build_site(settings).read_text(encoding="utf-8")
    by_dbt = {mart.name for mart in marts()} - set(MADE_MARTS)
    assert [name for name in by_dbt if f'"model.marquee.{name}"' not in page] == []
    assert [one.name for one in analyses() if f'"analysis.marquee.{one.name}"' not in page] == []
    assert '<script src="http' not in page
    assert not settings.warehouse.exists()
