"""The NCF paper's three files as people have them, ranked as the paper's own code ranks.

The paper draws a user's negatives one by one, outside the train file alone: some come twice, and some users have the
test item itself among theirs. Its code scores a dictionary of items, in which each stands once. Drawn so for the 2,999
users of ML-1M whose last item is known, EASE has HR@10 .725 and NDCG@10 .452 with each once, .720 and .447 otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.evaluation.benchmarks import RankingProblem, RatingProblem, read_problem
from models.evaluation.protocols.base import ProtocolError, RankingTask
from models.evaluation.protocols.ncf import NcfSplit

#: In no file of numbers, so that a row is read as one field.
_NO_SEPARATOR = "\x1f"


def read_given_problem(name: str, files: Mapping[str, Path], **options: Any) -> RankingProblem | RatingProblem:
    """``read_problem``; the paper's files may have a header, blank rows or their rows in another order.

    The data's hash is that of the files as given. ``ValueError`` says what is wrong with one of them.
    """
    if name != NcfSplit.name:
        try:
            return read_problem(name, files, **options)
        except pl.exceptions.PolarsError as error:
            given = ", ".join(str(path) for path in files.values())
            said = str(error).splitlines()[0]
            raise ProtocolError(f"{given}: a row is not like the first one ({said})") from error
    with TemporaryDirectory() as folder:
        plain = plain_files(files, Path(folder))
        try:
            problem = read_problem(name, plain, **options)
        except ProtocolError as error:
            said = str(error)
            for kind, path in files.items():
                said = said.replace(str(plain[kind]), str(path))
            raise ProtocolError(said) from error
    assert isinstance(problem, RankingProblem)
    task = once_each(problem.cut(0))
    return replace(problem, cut=lambda seed: task, data={**problem.data, "sha256": _digest(files)})


def once_each(task: RankingTask) -> RankingTask:
    """Replace candidates that repeat a user's target or an earlier negative with -1."""
    if task.candidates is None:
        return task
    once = np.where(_repeated(task.candidates), -1, task.candidates).astype(np.int32)
    return replace(task, candidates=once)


def _repeated(rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    """bool[B, C]: whether a row has the same number further left.

    >>> _repeated(np.array([[7, 3, 7, 3], [1, 2, 3, 4]], dtype=np.int32)).tolist()
    [[False, False, True, True], [False, False, False, False]]
    """
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    found = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(found, order, again, axis=1)
    return found


def plain_files(files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Return the files themselves where they are plain, else copies in ``folder``.

    A copy has no header, no blank row, no blank at a row's end, and negatives in the order of the test.
    Raises ``ProtocolError`` for a row of negatives that is longer or shorter than the first.
    """
    given = {kind: _lines(path) for kind, path in files.items()}
    rows = {kind: _stripped(lines) for kind, lines in given.items()}
    _refuse_ragged(files["negatives"], rows["negatives"])
    train, test = _without_header(rows["train"]), _without_header(rows["test"])
    wanted = {"train": train, "test": test, "negatives": _in_order_of(test, rows["negatives"])}
    return {
        kind: path if wanted[kind].equals(given[kind]) else _written(wanted[kind], folder / kind / path.name)
        for kind, path in files.items()
    }


def _lines(path: Path) -> pl.Series:
    """Every row as one text, null for an empty one."""
    if not path.is_file():
        raise ProtocolError(f"{path}: there is no such file")
    try:
        table = pl.read_csv(
            path, separator=_NO_SEPARATOR, has_header=False, infer_schema=False, quote_char=None, glob=False
        )
    except pl.exceptions.PolarsError as error:
        raise ProtocolError(f"{path}: {str(error).splitlines()[0]}") from error
    return table.to_series(0).alias("row")


def _stripped(lines: pl.Series) -> pl.Series:
    stripped = lines.drop_nulls().str.strip_chars()
    return stripped.filter(stripped != "")


def _without_header(rows: pl.Series) -> pl.Series:
    """Return the rows without the first one if it does not begin with a number."""
    named = len(rows) > 0 and not rows.head(1).str.contains(r"^[-+.\d]").item()
    return rows.slice(1) if named else rows


def _refuse_ragged(path: Path, rows: pl.Series) -> None:
    counts = rows.str.count_matches("\t").to_numpy()
    other = np.flatnonzero(counts != counts[:1])
    if len(other):
        raise ProtocolError(
            f"{path}: row {other[0] + 1} has {counts[other[0]]} negatives and the first one {counts[0]}; give each row"
            " as many, or their hits are not equally hard"
        )


def _in_order_of(test: pl.Series, negatives: pl.Series) -> pl.Series:
    """Return the negatives' rows in the test's order; unchanged if the two do not name the same pairs."""
    asked = _pairs(test, r"^(\d+)\t(\d+)\t")
    drawn = _pairs(negatives, r"^\(?\s*(\d+)\s*,\s*(\d+)\s*\)?\t").with_columns(
        items=negatives.str.extract(r"\t(.*)$", 1)
    )
    joined = asked.join(drawn, on=("user", "item"), how="left", maintain_order="left")
    if joined["items"].null_count() or not len(asked) == len(negatives) == len(joined):
        return negatives
    return joined.select(row=pl.format("({},{})\t{}", "user", "item", "items")).to_series()


def _pairs(rows: pl.Series, pattern: str) -> pl.DataFrame:
    """Columns ``user`` and ``item``, the two numbers that a row begins with; null for another beginning."""
    return pl.DataFrame(
        {
            name: rows.str.extract(pattern, group).cast(pl.Int64, strict=False)
            for group, name in enumerate(("user", "item"), start=1)
        }
    )


def _written(rows: pl.Series, path: Path) -> Path:
    path.parent.mkdir()
    path.write_text("\n".join(rows.to_list()) + "\n", encoding="utf-8")
    return path


def _digest(files: Mapping[str, Path]) -> str:
    """Return the digest of the files' digests, computed as in ``models.evaluation.benchmarks``."""
    digests = []
    for path in files.values():
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return hashlib.sha256("".join(digests).encode()).hexdigest()
