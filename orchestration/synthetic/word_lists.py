"""Fictional titles and people from word lists: the only place of the sample that knows any language.

Everything is drawn column-wise: a template such as ``{noun} in {place}`` becomes one string column per slot.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import polars as pl


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES: Final = _words(
    "Silent Crimson Hollow Golden Restless Paper Velvet Broken Distant Burning Gentle Forgotten Emerald Wandering "
    "Winter Hidden Scarlet Lonely Glass Iron Copper Drowned Sleeping Secret Midnight Borrowed Painted Northern Last "
    "Second Patient Crooked Luminous Quiet Reckless Salted Tangled Unfinished Vanishing Wild Amber Barefoot Careless "
    "Faithful Feathered Honest Impossible Jealous Laughing Marble Naïve Obstinate Perfect Ragged Shallow Tender "
    "Thirsty Twilight Unkind Weary"
)
NOUNS: Final = _words(
    "Lantern Harbor Orchard Clockmaker Garden River Compass Mirror Letter Bridge Lighthouse Carnival Kingdom Shadow "
    "Violin Island Meadow Feather Thunder Ember Tide Labyrinth Sparrow Mountain Promise Cathedral Whisper Horizon "
    "Anchor Ballroom Canyon Café Château Comet Courtroom Cradle Detour Dynasty Echo Fable Ferry Fortress Frontier "
    "Galaxy Glacier Heron Inheritance Jury Kite Ladder Machine Masquerade Monsoon Moth Nocturne Oath Observatory "
    "Parade Pendulum Pianist Planet Quarry Railway Reunion Rival Satellite Season Signal Stranger Summit Telegram "
    "Theorem Trapeze Tunnel Umbrella Verdict Voyage Waltz Watchtower Wolf Wedding Window Fiancée Hangar Honeymoon "
    "Alibi Engine Almanac Bakery Cipher Dragonfly"
)
AGENTS: Final = _words(
    "Keeper Thief Daughter Collector Whisperer Gambler Painter Detective Widow Smuggler Apprentice Pilot Captain "
    "Surgeon Heiress Gardener Baker Tailor Brothers Sisters Club Affair Conspiracy Protocol Paradox Incident Diaries "
    "Chronicle Murders Gang Hunter Dancer Singer Doctor Ghost Witness Messenger Translator Cartographer Swimmer"
)
GERUNDS: Final = _words(
    "Leaving Finding Crossing Forgetting Saving Remembering Chasing Raising Beyond Under Escaping Imagining"
)
MASSES: Final = _words(
    "Salt Ash Honey Smoke Rain Silver Bread Ivory Dust Snow Velvet Gin Thunder Ink Iron Lace Moonlight Mercy Fire Fog "
    "Sugar Steel Coral Amber Silk Rust Laughter Wine Marble Pepper"
)
NUMBERS: Final = _words("Two Three Four Five Six Seven Nine Ten Eleven Twelve Thirteen Twenty Forty")
PLACES: Final = tuple(
    head + tail
    for head in _words(
        "Cor Bel Mar Tor Vel Dun Fal Gren Hal Kes Lor Mon Nor Pel Quill Ros Sal Tam Var Wes Yar Zen Bram Cal Dor Fen "
        "Gal Hester Jun Kil Lin Mer Nev Pom Rav Sor Thal Val Wyn Bor"
    )
    for tail in _words(
        "vane marie wick holm ford haven mont dale more stead gate bury field cester minster borough ria ostra enza "
        "olé avía ing ön ava ette port wood moor combe land"
    )
)
FEMALE: Final = _words(
    "Maren Ada Ingrid Noor Celia Petra Amara Lucía Hélène Sofía Yuki Odile Freya Tamsin Priya Zoë Beatrix Ilse "
    "Marisol Anouk Linnea Thandi Oriana Rosalind Mei Sunniva Katya Leila Wilhelmina Delphine Aoife Renée Chiara Naomi "
    "Greta Paloma Siobhan Esther Vera Inês Josephine Matilda Nadia Roxana Saskia Ursula Yasmin Bettina Corinne Dagny"
)
MALE: Final = _words(
    "Tobias Emil Joaquín Rafael Søren Callum Idris Kenji Lorenz Mateo Ambrose André Björn Cassius Dmitri Elias Felix "
    "Gideon Hamish Ivo Jasper Kofi Leopold Magnus Nikolai Octavio Percival Quentin Rasmus Silas Théo Ulrich Viktor "
    "Wendell Xavier Yusuf Zoltán Anselm Barnaby Cormac Desmond Ezra Florian Gaspard Henrik Ignacio Julius Konrad "
    "Lucian Milo"
)
SURNAMES: Final = tuple(
    head + tail
    for head in _words(
        "Hol Mar Ash Wood Thorn Win Bex Cald Drum Ever Fair Gar Hart Kel Lang Mont Nor Old Pem Quin Rock Stan Tal "
        "Under Vance Whit Yard Alder Brad Cross"
    )
    for tail in _words(
        "loway brook wick land worth ley ton stone man field hurst by dale croft more well bridge sen gate shaw ridge "
        "combe berry more nett"
    )
) + _words(
    "Núñez Lindström Béranger Żuławek Ørland Müllner Castañeda Desrosiers Okonjo Tanabe Várkonyi Peñalver O'Darrow "
    "D'Aubrey"
)

#: (weight, article, body): the article is moved to the end by MovieLens.
TEMPLATES: Final = (
    (3.0, "The", "{adj} {noun}"),
    (3.0, "The", "{noun} {agent}"),
    (2.5, "", "{noun} in {place}"),
    (2.0, "The", "{agent} of {place}"),
    (1.5, "", "{adj} {noun}"),
    (1.0, "A", "{noun} for {first}"),
    (1.0, "", "{gerund} {place}"),
    (0.8, "An", "Evening with {first} {surname}"),
    (0.8, "", "{first} and the {noun}"),
    (0.8, "", "{mass}, {mass} and {mass}"),
    (0.7, "The", "Last {agent} of {place}"),
    (0.7, "", "{number} Days in {place}"),
    (0.6, "", "{place}: The {adj} {noun}"),
    (0.6, "", "Where the {noun} Sleeps"),
    (0.5, "A", "Summer in {place}"),
    (0.5, "The", "{noun} & the {noun}"),
    (0.3, "", "{place}, My Love"),
    (0.15, "The", '"{place}" Affair'),
    (0.06, "", '"{noun} Nights'),
    (0.06, "", '{noun} 12"'),
)

#: language -> (region, article, noun, English noun): the two titles of a foreign film share their place.
FOREIGN: Final[dict[str, tuple[str, str, tuple[tuple[str, str, str], ...]]]] = {
    "fr": (
        "FR",
        "de",
        (
            ("Le", "jardin", "Garden"),
            ("La", "forêt", "Forest"),
            ("L'", "été", "Summer"),
            ("La", "fiancée", "Bride"),
            ("Les", "élèves", "Pupils"),
            ("L'", "horloge", "Clock"),
            ("Le", "château", "Castle"),
            ("Les", "rêveurs", "Dreamers"),
        ),
    ),
    "es": (
        "ES",
        "de",
        (
            ("El", "corazón", "Heart"),
            ("La", "canción", "Song"),
            ("Los", "ángeles", "Angels"),
            ("El", "ladrón", "Thief"),
            ("La", "montaña", "Mountain"),
            ("Las", "sombras", "Shadows"),
        ),
    ),
    "de": (
        "DE",
        "von",
        (
            ("Der", "Schlüssel", "Key"),
            ("Die", "Brücke", "Bridge"),
            ("Das", "Märchen", "Tale"),
            ("Der", "Wächter", "Watchman"),
            ("Die", "Töchter", "Daughters"),
        ),
    ),
    "it": (
        "IT",
        "di",
        (("Il", "ladro", "Thief"), ("La", "città", "City"), ("L'", "estate", "Summer"), ("Lo", "specchio", "Mirror")),
    ),
}
KATAKANA: Final = tuple("アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモラリルレロ")

#: Tags that any film may get; genre words are added by the caller.
MOODS: Final = (
    "atmospheric", "based on a book", "twist ending", "slow", "quirky", "visually appealing", "great soundtrack",
    "dark comedy", "Highly quotable", "thought-provoking", "boring", "cult film", "surreal", "predictable",
    "great acting", "nostalgic", "small town", "unreliable narrator", "feel-good", "bittersweet", "ensemble cast",
    "time travel", "revenge", "friendship",
    "cinématographie", "so bad, it's good", 'a "lost" film', "overrated", "watched with kids", "remake", "must see",
)  # fmt: skip

_SLOTS: Final[dict[str, tuple[str, ...]]] = {
    "adj": ADJECTIVES,
    "noun": NOUNS,
    "agent": AGENTS,
    "gerund": GERUNDS,
    "mass": MASSES,
    "number": NUMBERS,
    "place": PLACES,
    "first": FEMALE + MALE,
    "surname": SURNAMES,
}


def draw(words: tuple[str, ...], n: int, rng: np.random.Generator) -> pl.Series:
    """Draw ``n`` words with equal probability."""
    return pl.Series(words).gather(rng.integers(0, len(words), n).astype(np.uint32))


def _fill(template: str, n: int, rng: np.random.Generator) -> pl.Series:
    """Fill a template ``n`` times."""
    parts = [part for part in re.split(r"(\{\w+\})", template) if part]
    columns = [
        draw(_SLOTS[part[1:-1]], n, rng) if part.startswith("{") else pl.Series([part]).new_from_index(0, n)
        for part in parts
    ]
    named = {f"c{i}": column for i, column in enumerate(columns)}
    return pl.DataFrame(named).select(pl.concat_str(pl.all()).alias("body"))["body"]


def _titles_once(n: int, rng: np.random.Generator) -> pl.DataFrame:
    weights = np.array([weight for weight, _, _ in TEMPLATES])
    counts = rng.multinomial(n, weights / weights.sum())
    frames = [
        pl.DataFrame({"body": _fill(body, count, rng)}).with_columns(article=pl.lit(article))
        for (_, article, body), count in zip(TEMPLATES, counts.tolist(), strict=True)
        if count
    ]
    return pl.concat(frames)[rng.permutation(n)]


def make_titles(n: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make ``n`` English titles: (article, body), one row a title.

    Bodies are distinct as long as the word lists suffice (about a million); then the rest may repeat.
    """
    titles = _titles_once(n + n // 4 + 64, rng)
    distinct = titles.unique(subset="body", keep="first", maintain_order=True)
    if distinct.height < n:
        distinct = pl.concat([distinct, titles.head(n - distinct.height)])
    return distinct.head(n).select("article", "body")


def make_foreign(n: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make ``n`` film titles with their English translation.

    Returns one row a title: (article, body, en_article, en_body, region, language).
    """
    entries = [
        (article, f"{noun} {link} ", f"{english} of ", region, language)
        for language, (region, link, nouns) in FOREIGN.items()
        for article, noun, english in nouns
    ]
    table = pl.DataFrame(entries, schema=["article", "body", "en_body", "region", "language"], orient="row")
    place = draw(PLACES, n, rng).alias("place")
    upper = pl.col("body").str.slice(0, 1).str.to_uppercase() + pl.col("body").str.slice(1)
    return (
        table[rng.integers(0, table.height, n)]
        .with_columns(place)
        .select(
            "article",
            (
                pl.when(pl.col("article").str.ends_with("'")).then(pl.col("body")).otherwise(upper) + pl.col("place")
            ).alias("body"),
            pl.lit("The").alias("en_article"),
            (pl.col("en_body") + pl.col("place")).alias("en_body"),
            "region",
            "language",
        )
    )


def join_article(article: str, body: str) -> pl.Expr:
    """Give the title as it is spoken: `The Lantern Keeper`, `L'été de Corvane`."""
    a, b = pl.col(article), pl.col(body)
    return pl.when(a == "").then(b).when(a.str.ends_with("'")).then(a + b).otherwise(a + " " + b)


def move_article(article: str, body: str) -> pl.Expr:
    """Give the title as MovieLens sorts it: `Lantern Keeper, The`."""
    a, b = pl.col(article), pl.col(body)
    return pl.when(a == "").then(b).otherwise(b.str.slice(0, 1).str.to_uppercase() + b.str.slice(1) + ", " + a)


def make_people(n: int, rng: np.random.Generator) -> pl.Series:
    """Make ``n`` names, a woman's at even rows and a man's at odd ones."""
    women, men = draw(FEMALE, n, rng), draw(MALE, n, rng)
    frame = pl.DataFrame({"w": women, "m": men, "s": draw(SURNAMES, n, rng), "i": np.arange(n)})
    first = pl.when(pl.col("i") % 2 == 0).then("w").otherwise("m")
    return frame.select((first + " " + pl.col("s")).alias("name"))["name"]


def make_katakana(n: int, rng: np.random.Generator) -> pl.Series:
    """Make ``n`` words of five katakana."""
    columns = {f"c{i}": draw(KATAKANA, n, rng) for i in range(5)}
    return pl.DataFrame(columns).select(pl.concat_str(pl.all()).alias("title"))["title"]
