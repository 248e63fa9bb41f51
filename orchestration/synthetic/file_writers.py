"""Frames to files, in the bytes of GroupLens and IMDb, with broken rows put between."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import polars as pl

from orchestration.synthetic.corrupt_rows import BREAKS, BrokenRow, break_row, places
from orchestration.synthetic.random_streams import Purpose, stream


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a source writes its tables."""

    separator: str
    line_end: str
    null: str
    quoted: bool

    def write(self, frame: pl.DataFrame, header: bool = False) -> bytes:
        """Give the bytes of these rows."""
        out = io.BytesIO()
        frame.write_csv(
            out,
            include_header=header,
            separator=self.separator,
            line_terminator=self.line_end,
            null_value=self.null,
            quote_style="necessary" if self.quoted else "never",
        )
        return out.getvalue()


MOVIELENS: Final = Dialect(separator=",", line_end="\r\n", null="", quoted=True)
IMDB: Final = Dialect(separator="\t", line_end="\n", null=r"\N", quoted=False)
#: The compression only: higher levels make the sample slower to write and no truer.
GZIP_LEVEL: Final = 1


@dataclass(frozen=True, slots=True)
class SampleFile:
    """One written file: base name, data rows (broken ones among them), how many are broken, size in bytes."""

    file: str
    rows: int
    broken_rows: int
    size: int


@contextmanager
def _opened(path: Path, mtime: int) -> Iterator[IO[bytes]]:
    """Open for writing; gzip with a fixed time and no name in its header, so that the same rows are the same bytes."""
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=raw, mtime=mtime) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield raw


def write_table(
    path: Path, frames: Iterable[pl.DataFrame], dialect: Dialect, *, mtime: int, seed: int | None
) -> tuple[SampleFile, list[BrokenRow]]:
    """Write frames one after the other under one header.

    ``seed`` places the file's broken rows, all within the first frame; None leaves them out.
    """
    file = path.name
    broken: list[BrokenRow] = []
    rows = 0
    with _opened(path, mtime) as out:
        for number, frame in enumerate(frames):
            at = 0
            if number == 0:
                out.write(dialect.write(frame.head(0), header=True))
                rng = stream(seed or 0, Purpose.BROKEN, sorted(BREAKS).index(file))
                kinds = BREAKS[file] if seed is not None and frame.height else ()
                for place, kind in zip(places(len(kinds), frame.height, rng), kinds, strict=True):
                    out.write(dialect.write(frame.slice(at, place - at)))
                    at = place
                    end = dialect.line_end.encode()
                    row = dialect.write(frame.slice(place - 1, 1)).removesuffix(end)
                    line = break_row(row, kind, dialect.separator)
                    out.write(line + end)
                    # After the header, the good rows so far, and the broken ones so far; lines count from 1.
                    line_number = 1 + place + len(broken) + 1
                    broken.append(BrokenRow(file, line_number, kind.reason, line.decode(errors="replace")))
            out.write(dialect.write(frame.slice(at)))
            rows += frame.height
    return SampleFile(file, rows + len(broken), len(broken), path.stat().st_size), broken
