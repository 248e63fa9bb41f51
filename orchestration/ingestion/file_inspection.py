"""What a file is before anything is read into a table: its digest, lines, own time, and whether its bytes are sound."""

from __future__ import annotations

import codecs
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from orchestration.errors import SourceError

#: Small enough that a piece, inflated, is still in the processor's cache when it is looked at, and that what numpy
#: makes of it comes from the heap: memory asked of the kernel for each piece takes twice the time of the work.
_CHUNK = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = codecs.BOM_UTF8

#: DuckDB reads a file as lines with a separator that no line holds; a line that holds its first character is escaped.
LINE_SEPARATOR = "\x01\x02\x03"

#: What a copy written by ``write_clean_copy`` holds in place of what DuckDB's line reader would trip over: characters
#: that Unicode sets aside for use inside a program.
ESCAPED_RETURN = "\ufdd0"
ESCAPED_START = "\ufdd1"
BLANK_LINE = "\ufdd2"
UNDECODABLE = "\ufdd3"


@dataclass(frozen=True)
class FileFacts:
    """What one pass over a file's bytes finds.

    ``lines``: lines of the uncompressed file, a last one without line end included. ``first_line`` comes without line
    end and byte order mark. ``snapshot_at``: naive, UTC. ``regular``: DuckDB's reader and the count of lines agree on
    what a line is; otherwise the file has line ends of two kinds, bare carriage returns, blank lines, bytes that its
    encoding does not know, or control characters, and is read through a clean copy. ``quotes``: it holds a double
    quote.
    """

    path: Path
    size: int
    sha256: str
    lines: int
    first_line: str
    snapshot_at: datetime
    compressed: bool
    regular: bool
    quotes: bool


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, at about a second per gigabyte.

    Raises ``SourceError`` when it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def check_gzip(path: Path) -> None:
    """See that a gzip is whole and its checksum fits.

    Raises ``SourceError``.
    """
    with path.open("rb") as handle:
        if not handle.peek(2).startswith(_GZIP_MAGIC):
            raise SourceError(f"{path} is no gzip. Delete it and get it again.")
        for _ in _plain_chunks(handle, path, hashlib.sha256(), compressed=True):
            pass


def inspect_file(path: Path, encoding: str) -> FileFacts:
    """Read a file once from end to end, checking what can be checked without knowing its columns.

    Raises ``SourceError`` when it is missing, unreadable, or a gzip that is cut off or damaged.
    """
    digest = hashlib.sha256()
    decoder = codecs.getincrementaldecoder(encoding)() if encoding != "latin-1" else None
    lines = returns = 0
    regular, quotes = True, False
    first_line, last = b"", b"\n"
    in_first_line = True
    try:
        stat = path.stat()
        with path.open("rb") as handle:
            magic = handle.read(8)
            handle.seek(0)
            compressed = magic.startswith(_GZIP_MAGIC)
            for chunk in _plain_chunks(handle, path, digest, compressed):
                if in_first_line:
                    first_line += chunk.partition(b"\n")[0]
                    in_first_line = b"\n" not in chunk
                lines += chunk.count(b"\n")
                # Nearly all files have no carriage return at all, and to see that is fifty times faster than to count.
                if last.endswith(b"\r") or b"\r" in chunk:
                    found, plain = _returns(last, chunk)
                    returns += found
                    regular = regular and plain
                else:
                    regular = regular and _is_regular_without_returns(last[-1:], chunk)
                quotes = quotes or b'"' in chunk
                if regular and decoder is not None:
                    regular = _decodes(decoder, chunk)
                # Two bytes carry a line end over the chunk's edge.
                last = chunk[-2:] if len(chunk) > 1 else (last + chunk)[-2:]
            if decoder is not None and regular:
                regular = _decodes(decoder, b"", final=True)
    except OSError as error:
        raise _unreadable(path, error) from error
    # A file that ends in a carriage return, has both kinds of line ends, or lacks the last one.
    regular = regular and not last.endswith(b"\r") and returns in (0, lines)
    lines += not last.endswith(b"\n")
    header_time = int.from_bytes(magic[4:8], "little") if compressed else 0
    return FileFacts(
        path=path,
        size=stat.st_size,
        sha256=digest.hexdigest(),
        lines=lines,
        first_line=first_line.removeprefix(_BOM).removesuffix(b"\r").decode(encoding, errors="replace"),
        snapshot_at=datetime.fromtimestamp(header_time or stat.st_mtime, UTC).replace(tzinfo=None, microsecond=0),
        compressed=compressed,
        regular=regular,
        quotes=quotes,
    )


def suppose_regular(path: Path, encoding: str) -> FileFacts | None:
    """Guess a gzip's facts from its first bytes, as if it were sound and regular: lines and digest are unknown.

    Returns None for a file that is unreadable or not a gzip, or whose first line does not end within those bytes.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            magic = handle.read(2)
            if magic != _GZIP_MAGIC:
                return None
            plain = zlib.decompressobj(wbits=31).decompress(magic + handle.read(_CHUNK))
    except (OSError, zlib.error):
        return None
    first_line, feed, _ = plain.partition(b"\n")
    if not feed:
        return None
    first_line = first_line.removeprefix(_BOM).removesuffix(b"\r")
    return FileFacts(
        path=path,
        size=size,
        sha256="",
        lines=0,
        first_line=first_line.decode(encoding, errors="replace"),
        snapshot_at=datetime.fromtimestamp(0, UTC).replace(tzinfo=None),
        compressed=True,
        regular=True,
        quotes=False,
    )


def write_clean_copy(facts: FileFacts, encoding: str, target: Path) -> None:
    r"""Write a file again as UTF-8 of which every line, counted by line feeds, is a line to DuckDB, too.

    Bare carriage returns, blank lines and control characters become the escapes above; a line with bytes that the
    encoding does not know starts with ``UNDECODABLE`` and shows them as ``\xNN``.
    """
    with facts.path.open("rb") as handle, target.open("w", encoding="utf-8", newline="") as out:
        rest = b""
        start = True
        for chunk in _plain_chunks(handle, facts.path, hashlib.sha256(), facts.compressed):
            if start:
                chunk = chunk.removeprefix(_BOM)
                start = False
            whole, feed, rest = (rest + chunk).rpartition(b"\n")
            if feed:
                out.write(_clean(whole + feed, encoding))
        if rest:
            out.write(_clean(rest + b"\n", encoding))


def _clean(block: bytes, encoding: str) -> str:
    """Whole lines, each with its line feed, in the form of ``write_clean_copy``."""
    try:
        text = block.decode(encoding)
    except UnicodeDecodeError:
        text = re.sub(
            r"^[^\n]*[\udc80-\udcff][^\n]*$",
            lambda line: UNDECODABLE + re.sub(r"[\udc80-\udcff]", lambda c: f"\\x{ord(c[0]) - 0xDC00:02x}", line[0]),
            block.decode(encoding, errors="surrogateescape"),
            flags=re.MULTILINE,
        )
    text = text.replace("\r\n", "\n").replace("\r", ESCAPED_RETURN).replace(LINE_SEPARATOR[0], ESCAPED_START)
    return re.sub(r"^(?=\n)", BLANK_LINE, text, flags=re.MULTILINE)


def _plain_chunks(handle: BinaryIO, path: Path, digest: hashlib._Hash, compressed: bool) -> Iterator[bytes]:
    """Yield the uncompressed bytes in pieces, feeding ``digest`` with the bytes on disk.

    Raises ``SourceError`` for a gzip that is cut off or whose checksum does not fit. A gzip may have several members.
    """
    inflate = zlib.decompressobj(wbits=31) if compressed else None
    while chunk := handle.read(_CHUNK):
        digest.update(chunk)
        if not compressed:
            yield chunk
            continue
        while chunk:
            if inflate is None:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                inflate = zlib.decompressobj(wbits=31)
            try:
                plain = inflate.decompress(chunk)
            except zlib.error as error:
                raise SourceError(f"{path} is damaged ({error}). Delete it and get it again.") from error
            chunk = inflate.unused_data
            if inflate.eof:
                inflate = None
            if plain:
                yield plain
    if inflate is not None:
        raise SourceError(f"{path} is cut off: the gzip has no end. Delete it and get it again.")


def _returns(before: bytes, chunk: bytes) -> tuple[int, bool]:
    """Line ends with a carriage return that end in ``chunk``, and whether DuckDB takes all of its line ends as we do.

    ``before`` is the two bytes before the chunk, or the one line feed that stands for a file's start. By numpy, for
    ``bytes.count`` starts anew at each of the returns, and a file of them has one a line.
    """
    import numpy as np

    block = before + chunk
    codes = np.frombuffer(block, dtype=np.uint8)
    is_return, is_feed = codes == ord("\r"), codes == ord("\n")
    ends = is_return[:-1] & is_feed[1:]
    found = int(np.count_nonzero(ends[len(before) - 1 :]))
    # A return at the very end says nothing yet: its feed may begin the next chunk.
    bare = np.count_nonzero(is_return[:-1]) != np.count_nonzero(ends)
    blank = (is_feed[:-1] & is_feed[1:]).any() or (is_feed[:-2] & is_return[1:-1]).any()
    return found, not (bare or blank or LINE_SEPARATOR[0].encode() in block)


def _is_regular_without_returns(before: bytes, chunk: bytes) -> bool:
    """Return whether DuckDB takes all line ends of a chunk without carriage returns as we do, as ``_returns`` does.

    ``before`` is the one byte before the chunk, no carriage return either.
    """
    blank = before == b"\n" and chunk.startswith(b"\n")
    return not blank and LINE_SEPARATOR[0].encode() not in chunk and b"\n\n" not in chunk


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    if chunk.isascii() and not decoder.getstate()[0] and not final:
        return True
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def _unreadable(path: Path, error: OSError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{path} does not exist. Put the file there, or let it be downloaded.")
    return SourceError(f"{path} cannot be read ({error.strerror}). Check its permissions and the disk.")
