from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.data.interactions import Interactions
from models.data.item_content import ItemContent
from models.data.movielens import ML_100K_GENRES
from models.evaluation.benchmarks import read_problem
from models.evaluation.protocols.base import RankingProtocol
from models.evaluation.protocols.global_temporal import Temporal
from models.evaluation.protocols.random_75_25 import Random7525
from models.evaluation.protocols.random_80_10_10 import Random811
from models.evaluation.protocols.strong_generalization import StrongGeneralisation
from models.evaluation.side_features import EditionFacts, read_edition_facts


def _words(content: ItemContent, item: int) -> dict[str, int]:
    row = content.counts[[item]].toarray()[0]
    return {name: int(count) for name, count in zip(content.names, row, strict=True) if count}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n3,"War, The (1994)",Drama|War\n8,Nameless,(no genres listed)\n'
    )
    (tmp_path / "tags.csv").write_text(
        "userId,movieId,tag,timestamp\n1,3,Slow  Burn,5\n2,3,war,6\n2,3,war,90\n1,8,mine,5\n7,3,stranger,5\n"
    )
    return tmp_path


def _read(folder: Path, users: list[int], items: list[int]) -> EditionFacts:
    facts = read_edition_facts(folder, np.array(users), np.array(items))
    assert facts is not None
    return facts


def test_the_words_of_a_film_come_from_the_files_beside_the_ratings(folder: Path) -> None:
    facts = _read(folder, [1, 2], [8, 3, 99])
    fit = Interactions.of([0, 1], [1, 1], timestamps=[7, 100], n_items=3)
    features = facts.known_to(fit)
    content = features.item_content
    assert content is not None
    assert _words(content, 1) == {
        "genre:Drama": 1, "genre:War": 1, "decade:1990": 1, "title:war": 1, "title:the": 1,
        "tag:slow burn": 1, "tag:war": 2,
    }  # fmt: skip
    assert _words(content, 0) == {"title:nameless": 1}
    assert _words(content, 2) == {}
    np.testing.assert_array_equal(content.years, np.array([np.nan, 1994, np.nan], dtype=np.float32))
    assert features.user_values.shape == (2, 0)


def test_a_tag_of_a_pair_that_is_not_learnt_or_later_than_the_fit_is_not_known(folder: Path) -> None:
    facts = _read(folder, [1, 2], [3, 8])
    # User 1 (index 0) rated film 8 alone, so that his tag of film 3 is not known; the second "war" is later than all.
    content = facts.known_to(Interactions.of([0, 1], [1, 0], timestamps=[7, 8], n_items=2)).item_content
    assert content is not None
    assert [name for name in content.names if name.startswith("tag:")] == ["tag:mine", "tag:war"]
    assert _words(content, 0)["tag:war"] == 1


def test_words_can_be_told_apart_by_kind(folder: Path) -> None:
    facts = _read(folder, [1], [3, 8])
    content = facts.known_to(Interactions.of([0], [0], n_items=2)).item_content
    assert content is not None
    part = content.kinds({"genre", "decade"})
    assert part.names == ("decade:1990", "genre:Drama", "genre:War")
    assert part.counts.toarray().tolist() == [[1, 1, 1], [0, 0, 0]]


def test_no_films_file_tells_nothing(tmp_path: Path) -> None:
    assert read_edition_facts(tmp_path, np.array([1]), np.array([1])) is None


def test_ml_100k_says_genres_by_flags_and_who_its_users_are(tmp_path: Path) -> None:
    flags = "|".join("1" if genre in ("Comedy", "War") else "0" for genre in ML_100K_GENRES)
    unknown = "|".join("1" if genre == "unknown" else "0" for genre in ML_100K_GENRES)
    (tmp_path / "u.item").write_text(
        f"1|Toy Story (1995)|01-Jan-1995||http://x|{flags}\n2|Café|14-Feb-1997|||{unknown}\n", encoding="latin-1"
    )
    (tmp_path / "u.user").write_text("4|24|M|technician|85711\n5|53|F|other|94043\n")
    facts = _read(tmp_path, [5, 4, 6], [1, 2])
    features = facts.known_to(Interactions.of([1, 0], [0, 1], n_users=3))
    assert features.item_content is not None
    assert set(_words(features.item_content, 0)) == {
        "genre:Comedy", "genre:War", "decade:1990", "title:toy", "title:story",
    }  # fmt: skip
    assert set(_words(features.item_content, 1)) == {"decade:1990", "title:café"}
    assert features.item_content.years.tolist() == [1995, 1997]
    assert features.user_names == ("age", "female", "occupation:other", "occupation:technician")
    assert features.user_values.tolist() == [[24, 0, 0, 1], [53, 1, 1, 0]]
    assert np.isnan(facts.users[2]).all()


def test_ml_1m_says_occupations_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_text("1::Toy Story (1995)::Animation|Comedy\n", encoding="latin-1")
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    facts = _read(tmp_path, [1, 2], [1])
    assert facts.user_names == ("age", "female", "occupation:K-12 student", "occupation:self-employed")
    assert facts.users.tolist() == [[1, 1, 1, 0], [56, 0, 0, 1]]


@pytest.fixture
def small_edition(tmp_path: Path) -> Path:
    """40 users, 150 films and a tag for every rating, whose words name the pair: any leak of one shows."""
    codes = np.random.default_rng(0).choice(40 * 150, 1_200, replace=False)
    rows = [(1 + c // 150, c % 150, 1 + c % 5, 1_000 + t) for t, c in enumerate(codes.tolist())]
    lines = ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines))
    films = [f"{film},Film (19{film % 90 + 10}),Drama" for film in range(150)]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
    tags = [f"{user},{film},pair {user} {film},{time + 3}" for user, film, _, time in rows]
    (tmp_path / "tags.csv").write_text("\n".join(["userId,movieId,tag,timestamp", *tags]))
    return tmp_path / "ratings.csv"


@pytest.mark.parametrize(
    "protocol", ["leave-last-out", "random-75-25", "random-8-1-1", "temporal", "strong-generalisation"]
)
def test_no_protocol_tells_a_tag_of_what_is_to_be_found(small_edition: Path, protocol: str) -> None:
    problem = read_problem(protocol, {"ratings": small_edition})
    task = problem.cut(3)
    watched = problem.protocol.validation(task, seed=3)  # type: ignore[union-attr]
    assert watched.facts is task.facts
    for part in (task, watched):
        assert part.features is not None
        assert part.features.item_content is not None
        assert len(part.features.user_values) == len(part.fit)
        tags = [name for name in part.features.item_content.names if name.startswith("tag:")]
        pairs = {tuple(map(int, name.split()[1:])) for name in tags}
        # Ids are indices, but that those of the users begin with 1.
        learnt = {(user + 1, item) for user, item in zip(part.fit.users.tolist(), part.fit.items.tolist(), strict=True)}
        assert pairs
        assert pairs <= learnt
        if protocol == "temporal":
            latest = int(part.fit.timestamps.max())
            when = dict(zip(zip(part.fit.users + 1, part.fit.items, strict=True), part.fit.timestamps, strict=True))
            assert all(when[pair] + 3 <= latest for pair in pairs)


@pytest.mark.parametrize(
    "protocol", [Random7525(), Random811(1.0), Temporal(0.6), StrongGeneralisation()], ids=lambda one: one.name
)
def test_everybody_who_is_asked_for_comes_with_his_own_features(protocol: RankingProtocol) -> None:
    rng = np.random.default_rng(1)
    codes = rng.choice(30 * 40, 600, replace=False)
    rows = Interactions.of(codes // 40, codes % 40, timestamps=rng.permutation(600), n_users=30, n_items=40)
    # Each user's only feature is his own index.
    own = np.arange(30, dtype=np.float32)[:, None]
    facts = EditionFacts(_no_words(), _no_tags(), np.full(40, np.nan, np.float32), own, ("index",), ())
    task = facts.tell(protocol.split(rows, seed=2))
    assert task.user_features is not None
    assert task.features is not None
    np.testing.assert_array_equal(task.features.user_values[:, 0], task.fit.users)
    met = rows.matrix().toarray() > 0
    for asked, told, sought in zip(task.user_features, task.history.toarray(), task.relevant.toarray(), strict=True):
        assert met[int(asked[0])][(told > 0) | (sought > 0)].all()


def _no_words() -> pl.DataFrame:
    return pl.DataFrame(schema={"item": pl.UInt32, "word": pl.String})


def _no_tags() -> pl.DataFrame:
    return pl.DataFrame(schema={"user": pl.UInt32, "item": pl.UInt32, "time": pl.Int64, "word": pl.String})
