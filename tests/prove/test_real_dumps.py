"""Long proof on real files: from IMDb's ratings of 2019 to those of 2025, and only what follows them is rebuilt."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from settings import PROJECT_ROOT
from tests.graph.conftest import GraphHome
from tests.graph.test_whole_graph import rebuilt
from tests.prove.killing import write_report

REAL_DATA = Path(os.environ.get("MARQUEE_TEST_DATA", PROJECT_ROOT.parent / "shared" / "data"))
DUMPS = "title.basics,title.ratings,title.crew,title.akas"

#: All that is read from title.ratings, through however many tables. What is fitted is not among them.
CONE = {
    *("raw/imdb_title_ratings", "raw/imdb_changes", "raw/loads", "raw/quarantine", "staging/stg_imdb__ratings"),
    *("intermediate/int_movie_candidates", "intermediate/int_imdb_only_films", "marts/dim_movies", "marts/movie_imdb"),
    *("marts/imdb_changes", "published_copy", "feature_histories/movie_imdb", "online_store", "promoted_model"),
}


def test_six_years_of_votes_rebuild_the_cone_of_title_ratings_and_spare_the_rest(tmp_path: Path) -> None:
    if not (REAL_DATA / "imdb" / "later").is_dir():
        pytest.skip(f"no real dumps under {REAL_DATA}; MARQUEE_TEST_DATA names their folder")
    mirror = tmp_path / "mirror"
    shutil.copytree(REAL_DATA / "ml-latest-small", mirror / "ml-latest-small")
    shutil.copytree(REAL_DATA / "imdb" / "full", mirror / "imdb")
    ratings = mirror / "imdb" / "title.ratings.tsv.gz"
    ratings.chmod(0o644)
    shutil.copyfile(REAL_DATA / "imdb" / "earlier" / ratings.name, ratings)
    home = GraphHome(tmp_path / "home", mirror, broken_rows=0)
    first = home.run("--no-recommend", MARQUEE_IMDB_DUMPS=DUMPS)
    assert first.status == 0, first.story

    shutil.copyfile(REAL_DATA / "imdb" / "later" / ratings.name, ratings)
    started = time.monotonic()
    update = home.run("--no-recommend", MARQUEE_IMDB_DUMPS=DUMPS)
    took = time.monotonic() - started
    started = time.monotonic()
    again = home.run("--no-recommend", MARQUEE_IMDB_DUMPS=DUMPS)
    built = rebuilt(update)
    report = {"update_s": round(took, 1), "second_update_s": round(time.monotonic() - started, 1)}
    write_report("real_dumps", {**report, "rebuilt": sorted(built), "story": update.story.splitlines()})
    assert built >= CONE
    # No table of MovieLens, of another dump, of people, and nothing that is fitted or built of them.
    assert not {name for name in built if name.startswith(("raw/ml_", "staging/stg_movielens", "candidates/"))}
    assert not built & {
        "raw/imdb_title_basics",
        "raw/imdb_title_crew",
        "raw/imdb_title_akas",
        "intermediate/int_user_keys",
    }
    assert not built & {"marts/fct_ratings", "comparison", "fitted_model", "model_bundle", "bento"}
    # Films that IMDb alone has enter the catalogue with their votes: content is looked at, no training row moves.
    assert re.search(r"training_set +the same +because feature_histories/movie_content changed", update.story)
    spared = update.story.split("\nspared: ")[1]
    for name in ("fitted_model", "candidates/neumf", "raw/ml_ratings", "bento"):
        assert name in spared
    assert again.status == 0, again.story
    assert "Nothing has changed" in again.story
