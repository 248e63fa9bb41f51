"""Tiny streaming catalogues in their true layout."""

from __future__ import annotations

from pathlib import Path

from orchestration.ingestion.streaming import PLATFORMS

HEADER = "show_id,type,title,director,cast,country,date_added,release_year,rating,duration,listed_in,description"
#: By file; Amazon's row ends in a description over two lines, Netflix' second one has its duration in the rating.
ROWS = {
    "netflix_titles.csv": (
        's1,Movie,The Lantern Keeper,Ana Vale,"Ann Vale, Bo Tor",Spain,"March 30, 2021",1999,PG-13,95 min,Dramas,Rain.',
        's2,Movie,Hush,,Cy Dent,"Spain, ",,2001,74 min,,Dramas,Wind.',
    ),
    "amazon_prime_titles.csv": (
        (
            "s1,Movie,The Lantern Keeper (Extended Edition),,Ann Vale,,,1999,,101 min,Drama,"
            '"Rain, ""more"" rain\nand wind."'
        ),
    ),
    "disney_plus_titles.csv": ("s1,Movie,Reef \ufffd Two,,,,,2010,G,80 min,Animation,Fish.",),
    "hulu_titles.csv": ('s1,TV Show,Bells,,,,"October 24, 2021",2015,TV-14,2 Seasons,Drama,Bells.',),
}
RATINGS = {
    "1.csv": "userId,rating,timestamp,movieId\n1,1.0,1,ns1\n1,4.0,2,ns1\n2,4.5,5,ns1\n2,2,6,hs1\n",
}


def write_catalogues(folder: Path, ratings: dict[str, str] = RATINGS, **changed: str) -> Path:
    """Write the four catalogs, with byte order marks and line ends as published, and files of ratings.

    ``changed``: rows that replace those of a platform's file.
    """
    (folder / "ratings").mkdir(parents=True, exist_ok=True)
    for platform in PLATFORMS:
        rows = changed[platform.name] if platform.name in changed else "\r\n".join((*ROWS[platform.file], ""))
        mark = "" if platform.name == "disney" else "\ufeff"
        (folder / platform.file).write_bytes(f"{mark}{HEADER}\r\n{rows}".encode())
    for name, text in ratings.items():
        (folder / "ratings" / name).write_text(text)
    return folder
