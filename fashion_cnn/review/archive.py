"""Files as one zip, and back: the same files give the same bytes, and a hostile zip does no harm.

Entries are stored, not deflated: another zlib deflates to other bytes. Reading happens in memory within limits and
writes nothing; a zip that could harm whoever unpacks it is refused before any of its contents is looked at.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

MOST_BYTES: Final = 128 * 2**20  # of a zip, and of all that it holds together
MOST_FILES: Final = 20_000
MOST_RATIO: Final = 100  # unpacked to packed; text reaches 20
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_ENTRY: Final = b"PK\x01\x02"  # each entry of a zip's directory begins so
_LOCAL: Final = struct.Struct("<4s5H3L2H")  # before each entry; ends with the lengths of name and extra field
_END: Final = struct.Struct("<4s4H2LH")  # the last bytes of a zip without a comment
_MOST_EXTRA: Final = 64  # bytes; Info-ZIP's times and owners take 28
_DESCRIBED: Final = 0x8  # the sizes follow the contents once more
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_PERMISSIONS: Final = stat.S_IFREG | 0o644
_UNREADABLE: Final = (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error)
"""What `zipfile` raises at a zip that is none, or a damaged one, besides its own error."""


class ArchiveError(ValueError):
    """A file that is no zip, or not safe to read as one: one line that says why."""


@dataclass(frozen=True)
class Unpacked:
    """What a zip holds."""

    files: Mapping[str, bytes]  # by name, in the zip's order
    damaged: Mapping[str, str]  # the names of those that cannot be read, and why


def pack(files: Mapping[str, bytes], moment: int) -> bytes:
    """A zip of some files, in the order of their names; the same arguments give the same bytes.

    Names have letters, digits, `.`, `_` and `-`, folders `/`. Every entry's date is the `moment`, milliseconds since
    1970; in UTC, brought into the years 1980 to 2107. Raises an ArchiveError at another name, and at more than `unpack`
    takes.
    """
    for name in files:
        _check_name(name)
    _check_size(len(files), sum(map(len, files.values())))
    time = datetime.fromtimestamp(moment / 1000, UTC).timetuple()[:6]
    date = min(max(time, (1980, 1, 1, 0, 0, 0)), (2107, 12, 31, 23, 59, 58))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, date)
            entry.create_system = 3  # whose permissions follow: Unix, whatever packs
            entry.external_attr = _PERMISSIONS << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def unpack(content: bytes) -> Unpacked:
    """The files of a zip, in memory.

    Raises an ArchiveError that names the entry where it is no zip, or has one that is encrypted, a link or another
    special file, packed in an unusual way, there twice, or named so that it could leave its folder; or where it is too
    large, has too many files, or grows too much when it is unpacked; or where it holds bytes that belong to no file:
    before, between or after its entries another program could find another zip, a page or a script.
    """
    # Before Python's reader makes an object of each entry.
    _check_size(content.count(_ENTRY), len(content))
    try:
        opened = zipfile.ZipFile(io.BytesIO(content))
    except _UNREADABLE as error:
        raise ArchiveError(f"no zip that can be read ({_in_one_line(error)})") from None
    with opened:
        entries = [entry for entry in opened.infolist() if not _is_folder(entry)]
        seen: set[str] = set()
        for entry in entries:
            _check_entry(entry)
            if entry.filename.casefold() in seen:
                raise ArchiveError(f"{entry.filename} is there twice")
            seen.add(entry.filename.casefold())
        _check_size(len(entries), sum(entry.file_size for entry in entries))
        _check_layout(content, opened)
        files, damaged = {}, {}
        for entry in entries:
            try:
                with opened.open(entry) as file:
                    # With the size that the entry names, which is within the limits: read() alone unpacks what is
                    # really there before it cuts it to that size.
                    files[entry.filename] = file.read(entry.file_size)
            except _UNREADABLE as error:
                damaged[entry.filename] = _in_one_line(error)
    return Unpacked(files, damaged)


def _check_size(files: int, size: int) -> None:
    if files > MOST_FILES:
        raise ArchiveError(f"{files:,} files are too many; allowed: {MOST_FILES:,}")
    if size > MOST_BYTES:
        raise ArchiveError(f"{size:,} bytes are too many; allowed: {MOST_BYTES:,}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        allowed = "letters, digits, '.', '_', '-', and '/' for folders inside it"
        raise ArchiveError(f"{name[:80]!r} is no name that a file in it may have; allowed: {allowed}")


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is a plain folder: what other programs add when they zip anew."""
    name = entry.orig_filename
    return name.endswith("/") and not entry.file_size and _NAME.fullmatch(name[:-1]) is not None and not _is_odd(entry)


def _is_odd(entry: zipfile.ZipInfo) -> bool:
    """Whether it is a link, a device or the like; its kind is 0 where the system that packed has none."""
    return stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename  # as it stands there: `filename` was brought into order
    _check_name(name)
    if _is_odd(entry):
        raise ArchiveError(f"{name} is a link or another special file")
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveError(f"{name} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"{name} is packed by method {entry.compress_type}; allowed: stored or deflated")
    if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
        raise ArchiveError(f"{name} has {entry.file_size:,} bytes, but is stored in {entry.compress_size:,}")
    if entry.file_size > MOST_RATIO * max(entry.compress_size, 1):
        raise ArchiveError(f"{name} grows from {entry.compress_size:,} to {entry.file_size:,} bytes; refused as a bomb")


def _check_layout(content: bytes, opened: zipfile.ZipFile) -> None:
    """Refuse a zip with bytes that belong to none of its entries, however another program would read them."""
    end = content[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise ArchiveError("it has bytes after its end, or a comment; allowed: the zip alone")
    _, *parts, _ = _END.unpack(end)
    size, start = parts[4], parts[5]
    if start + size + _END.size != len(content):
        raise ArchiveError("it has bytes before its beginning, or after its list of files; allowed: the zip alone")
    place = 0
    for entry in sorted(opened.infolist(), key=lambda entry: entry.header_offset):
        header = content[entry.header_offset :][: _LOCAL.size]
        if entry.header_offset != place or len(header) < _LOCAL.size:
            raise ArchiveError(f"{entry.filename[:80]!r} is not where the file before it ends: bytes belong to no file")
        *_, name_length, extra_length = _LOCAL.unpack(header)
        if entry.comment or max(len(entry.extra), extra_length) > _MOST_EXTRA:
            raise ArchiveError(f"{entry.filename[:80]!r} has a comment or {extra_length} bytes beside its contents")
        place += _LOCAL.size + name_length + extra_length + entry.compress_size
        if entry.flag_bits & _DESCRIBED:
            place += 16 if content[place : place + 4] == b"PK\x07\x08" else 12
    if place != start:
        raise ArchiveError("it has bytes between its files and their list; allowed: the zip alone")


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
