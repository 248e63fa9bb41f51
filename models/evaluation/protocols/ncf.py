"""The NCF paper's own files: train, test and the 99 negatives of each test row, ids renumbered, no content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.interactions import Interactions
from models.evaluation.protocols.base import ProtocolError, RankingTask, task_of
from models.evaluation.protocols.leave_last_out import LeaveLastOut


@dataclass(frozen=True)
class NcfSplit(LeaveLastOut):
    """Rank each test row's item among its given negatives; the validation is the last row of the train file."""

    name: ClassVar[str] = "ncf-split"


def read_ncf_files(train: Path, test: Path, negatives: Path) -> RankingTask:
    """Read the task from three tab-separated files.

    ``train`` and ``test`` have rows of user, item, rating and time; ``negatives`` has rows of ``(user,item)`` and its
    negatives.

    Raises ``ProtocolError`` naming the file when the negatives are not those of the test rows in their order, a test
    item was in the train file, or a negative was.
    """
    learnt, asked = _rows(train), _rows(test)
    drawn = _table(negatives)
    fields = drawn[drawn.columns[0]].str.strip_chars("()").str.split_exact(",", 1).struct.unnest()
    named = fields.select(pl.all().cast(pl.Int64, strict=False)).to_numpy()
    if named.shape != (len(asked), 2) or not np.array_equal(named, asked[:, :2]):
        raise ProtocolError(f"{negatives}: its pairs are not those of {test.name}, row by row")
    try:
        candidates = drawn.select(pl.col(drawn.columns[1:]).cast(pl.Int32)).to_numpy()
    except pl.exceptions.InvalidOperationError as error:
        raise ProtocolError(f"{negatives}: a negative is not an item number") from error
    n_users = int(max(learnt[:, 0].max(), asked[:, 0].max())) + 1
    n_items = int(max(learnt[:, 1].max(), asked[:, 1].max(), candidates.max())) + 1
    fit = Interactions.of(*learnt.T, n_users=n_users, n_items=n_items)
    relevant = Interactions.of(*asked.T, n_users=n_users, n_items=n_items)
    if len(np.unique(relevant.users)) != len(relevant):
        raise ProtocolError(f"{test}: a user has two rows")
    _refuse_known(fit, relevant.users[:, None], relevant.items[:, None], f"{test}: an item is in {train.name} too")
    _refuse_known(fit, relevant.users[:, None], candidates, f"{negatives}: a negative is in {train.name}")
    order = np.argsort(relevant.users, kind="stable")
    return task_of(fit, relevant.take(order), candidates=np.column_stack([relevant.items, candidates])[order])


def _refuse_known(fit: Interactions, users: NDArray[np.int32], items: NDArray[np.int32], complaint: str) -> None:
    codes = users.astype(np.int64) * fit.n_items + items
    if np.isin(codes, fit.codes()).any():
        raise ProtocolError(complaint)


def _rows(path: Path) -> NDArray[np.float64]:
    """float64[N, 4] of a train or test file; a time has ten digits, which a float64 holds exactly."""
    table = _table(path)
    if table.width != 4:
        raise ProtocolError(f"{path}: {table.width} fields in a row, expected user, item, rating, timestamp")
    rows = table.select(pl.all().cast(pl.Float64, strict=False))
    if rows.null_count().sum_horizontal().item():
        raise ProtocolError(f"{path}: a row is not four numbers")
    return rows.to_numpy()


def _table(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise ProtocolError(f"{path}: there is no such file")
    try:
        return pl.read_csv(path, separator="\t", has_header=False, infer_schema=False, quote_char=None, glob=False)
    except pl.exceptions.PolarsError as error:
        raise ProtocolError(f"{path}: {str(error).splitlines()[0]}") from error
