"""Versions of code: a better sentence or another place of a file changes none, a changed constant or macro does."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.runtime import code_fingerprint as fingerprints
from models.runtime.code_fingerprint import code_fingerprint, syntax_fingerprint
from orchestration.lib import code_versions
from orchestration.lib.code_versions import code_version, sql_version
from settings import PROJECT_ROOT

NEUMF = Path("models", "algorithms", "neumf")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the code to where it may be edited, and use the copy in place of the real one."""
    for folder in ("models", "orchestration/quality", "dbt_project/macros"):
        shutil.copytree(PROJECT_ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "_ROOT", tmp_path)
    monkeypatch.setattr(code_versions, "PROJECT_ROOT", tmp_path)
    return tmp_path


def edit(file: Path, change: Callable[[str], str]) -> None:
    before = file.read_text()
    after = change(before)
    assert after != before
    file.write_text(after)


def versions() -> list[str]:
    """Return the versions of a recommender, a protocol, a folder and the macros."""
    return [
        code_fingerprint("models.algorithms.neumf.model"),
        code_fingerprint("models.evaluation.comparison"),
        code_version("orchestration/quality", closure_of=["models.promotion.backtest"]),
        code_version("dbt_project/macros"),
    ]


def test_a_docstring_and_a_comment_leave_every_version_equal(project: Path) -> None:
    before = versions()
    for file in [*project.rglob("*.py")]:
        said = file.read_text().replace('"""', '"""Another word. ', 1)
        file.write_text(f"# A comment.\n{said}\n# At the end.\n")
    for file in project.rglob("*.sql"):
        file.write_text(f"-- another comment\n{file.read_text()}\n{{# and one of Jinja #}}\n")
    assert versions() == before


def test_a_renamed_file_leaves_every_version_equal(project: Path) -> None:
    before = versions()
    (project / "models" / "metrics.py").rename(project / "models" / "ranking_metrics.py")
    (project / NEUMF / "network.py").rename(project / "models" / "two_towers.py")
    for file in project.rglob("*.py"):
        text = file.read_text()
        text = text.replace("from models import metrics", "from models import ranking_metrics as metrics")
        text = text.replace("models.metrics", "models.ranking_metrics")
        file.write_text(text.replace("models.algorithms.neumf.network", "models.two_towers"))
    assert not any("neumf.network" in file.read_text() for file in project.rglob("*.py"))
    assert versions() == before


def test_a_changed_constant_changes_the_versions_that_stand_on_it(project: Path) -> None:
    before = versions()
    edit(project / NEUMF / "training.py", lambda text: text + "\nANOTHER = 1\n")
    changed = [one != other for one, other in zip(versions(), before, strict=True)]
    assert changed == [True, False, False, False]


def test_a_changed_metric_imported_as_a_module_changes_what_judges(project: Path) -> None:
    assert "from models import metrics" in (project / "models" / "promotion" / "backtest.py").read_text()
    before = code_fingerprint("models.promotion.backtest")
    edit(project / "models" / "metrics.py", lambda text: text + "\nCUT = 11\n")
    assert code_fingerprint("models.promotion.backtest") != before


def test_a_changed_macro_changes_the_version_of_the_macros(project: Path) -> None:
    before = versions()
    edit(project / "dbt_project" / "macros" / "matching.sql", lambda text: text + "{% set another = 1 %}\n")
    changed = [one != other for one, other in zip(versions(), before, strict=True)]
    assert changed == [False, False, False, True]


def test_one_recommender_says_nothing_of_another(project: Path) -> None:
    before = code_fingerprint("models.algorithms.neumf.model"), code_fingerprint("models.algorithms.two_stage.model")
    edit(project / "models" / "algorithms" / "two_stage" / "model.py", lambda text: text + "\nANOTHER = 1\n")
    after = code_fingerprint("models.algorithms.neumf.model"), code_fingerprint("models.algorithms.two_stage.model")
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("def f(a): return a", "def g(a): return a"),
        ("from models.algorithms.ease import Ease", "from models.algorithms.ease import EaseConfig"),
        ("from numpy import log", "from numpy import log2"),
        ("x = 'a sentence'", "x = 'another sentence'"),
    ],
)
def test_code_that_does_something_else_has_another_fingerprint(one: str, other: str) -> None:
    assert syntax_fingerprint(one) != syntax_fingerprint(other)


def test_sql_is_compared_by_its_tokens() -> None:
    assert sql_version("select a, b from {{ ref('x') }}") == sql_version("SELECT a,b -- two\nFROM {{ref('x')}}")
    assert sql_version("SELECT 'a  b'") != sql_version("SELECT 'a b'")


def test_a_version_of_a_file_that_is_not_there_is_refused(project: Path) -> None:
    with pytest.raises(FileNotFoundError, match="decides the version of an asset and is not there"):
        code_version("orchestration/gone.py")
