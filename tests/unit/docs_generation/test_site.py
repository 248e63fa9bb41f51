"""dbt's docs as one page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from unittest import mock

import pytest
import yaml

from orchestration.analytics.python_marts import MADE_MARTS
from orchestration.docs_generation.data_dictionary import marts
from orchestration.docs_generation.dbt_docs import build_site
from orchestration.queries.analyses import FOLDER, analyses
from settings import Settings
from tests.unit.publishing.browsing import browser

#: The name that the page shows, whether all of what tells it is within the screen, and whether any of it can be read.
SHOWN = """
new Promise(resolve => {
  const look = () => {
    const content = document.querySelector(".app-content");
    const name = content && content.querySelector("h1");
    if (!name || !name.innerText.trim()) return setTimeout(look, 50);
    const place = content.getBoundingClientRect();
    resolve({name: name.innerText.trim().split(/\\s/)[0], left: place.left, right: place.right,
             high: place.height > innerHeight / 2, wide: document.documentElement.scrollWidth});
  };
  look();
})
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return a home that has the docs of a project that was never built."""
    made = Settings(home=tmp_path_factory.mktemp("docs") / "home")
    with mock.patch.dict(os.environ):
        build_site(made)
    return made


@pytest.fixture(scope="module")
def file(settings: Settings) -> Path:
    return settings.docs / "dbt" / "static_index.html"


def test_the_docs_of_a_project_that_was_never_built_hold_every_mart_and_analysis(
    settings: Settings, file: Path
) -> None:
    page = file.read_text(encoding="utf-8")
    by_dbt = {mart.name for mart in marts()} - set(MADE_MARTS)
    assert [name for name in by_dbt if f'"model.marquee.{name}"' not in page] == []
    assert [one.name for one in analyses() if f'"analysis.marquee.{one.name}"' not in page] == []
    assert '<script src="http' not in page
    assert "What the tables of Marquee hold" in page
    assert not settings.warehouse.exists()


def test_an_analysis_is_described_by_its_question() -> None:
    said = yaml.safe_load((FOLDER / "analyses.yml").read_text(encoding="utf-8"))["analyses"]
    assert {one["name"]: one["description"] for one in said} == {one.name: one.question for one in analyses()}


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_a_browser_shows_a_mart_across_the_screen_of_a_phone_and_beside_the_list_on_a_desktop(
    file: Path, tmp_path: Path
) -> None:
    with browser(tmp_path / "profile") as ask:
        for width, is_phone in ((390, True), (1280, False)):
            screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": is_phone}
            ask("Emulation.setDeviceMetricsOverride", **screen)
            # Another place within the page that is shown would not be loaded.
            ask("Page.navigate", url="about:blank")
            ask("Page.navigate", url=f"{file.as_uri()}#!/model/model.marquee.dim_movies")
            seen = ask("Runtime.evaluate", expression=SHOWN, awaitPromise=True, returnByValue=True)["result"]["value"]
            assert (seen["name"], seen["high"]) == ("dim_movies", True)
            assert seen["wide"] <= width >= seen["right"]
            assert seen["left"] == 0 if is_phone else seen["left"] >= 200
