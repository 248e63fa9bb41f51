"""Code versions of assets: what decides an asset's content, by meaning and not by letter.

A comment, a docstring, a description in a yml's comment or the name of a file leaves every version as it is, so that a
better sentence rebuilds nothing; a changed constant, statement, macro or setting does not.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import sqlglot
import yaml
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, Tokenizer, TokenType

from models.runtime.code_fingerprint import code_fingerprint, imported_models, syntax_fingerprint
from settings import PROJECT_ROOT

#: Of a folder, these files decide what it does.
_SUFFIXES = {".py", ".sql", ".yml", ".yaml", ".toml"}


def code_version(*paths: str, closure_of: Iterable[str] = ()) -> str:
    """Return the version of files, folders of files, and modules of ``models`` with all that they import.

    A file of domain code brings the modules of ``models`` that it imports along. One of ``defs`` does not: it holds
    several assets, each of which names what it calls.

    Args:
        paths: files or folders, from the root of the project.
        closure_of: modules by their dotted names (``models.algorithms.ease``).

    Returns:
        Twelve hexadecimal digits.

    Raises:
        FileNotFoundError: a path is not there; a version that lacks a file would never change with it.
    """
    files = [file for name in paths for file in _files(PROJECT_ROOT / name)]
    digests = sorted(_meaning(file.suffix, file.read_text(encoding="utf-8")) for file in files)
    domain = [file for file in files if file.suffix == ".py" and "defs" not in file.parts]
    modules = {*closure_of, *(name for file in domain for name in imported_models(file.read_text(encoding="utf-8")))}
    return _digest(*digests, *sorted(code_fingerprint(module) for module in modules))


def sql_version(sql: str) -> str:
    r"""Return the version of SQL, with or without Jinja, by its tokens.

    >>> sql_version("SELECT 1 AS one -- the only row") == sql_version("SELECT 1\n    AS one")
    True
    """
    try:
        tokens = sqlglot.tokenize(sql, dialect="duckdb")
    except SqlglotError:
        return _digest(sql)
    return _digest(*(f"{token.token_type.name} {_spelling(token)}" for token in tokens))


def _spelling(token: Token) -> str:
    """Return a token as it is compared: the case of a keyword does not count."""
    literal = token.token_type in {TokenType.STRING, TokenType.IDENTIFIER}
    return token.text if literal or token.text.upper() not in Tokenizer.KEYWORDS else token.text.upper()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in path.rglob("*") if file.suffix in _SUFFIXES]
    if not path.is_file():
        raise FileNotFoundError(f"{path} decides the version of an asset and is not there")
    return [path]


@cache
def _meaning(suffix: str, text: str) -> str:
    if suffix == ".py":
        return syntax_fingerprint(text)
    if suffix == ".sql":
        return sql_version(text)
    if suffix in {".yml", ".yaml"}:
        return _digest(json.dumps(yaml.safe_load(text), sort_keys=True, default=str))
    if suffix == ".toml":
        return _digest(json.dumps(tomllib.loads(text), sort_keys=True, default=str))
    return _digest(text)


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]
