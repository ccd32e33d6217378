"""A zip is the same bytes for the same files, and a hostile one is refused before it can do harm."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_cnn.review import archive
from fashion_cnn.review.archive import ArchiveError, pack, unpack

FILES = {"b/two.csv": b"1,2\n", "a.txt": b"one", "b/empty.txt": b""}
MOMENT = 1_795_000_000_000


def zipped(
    *entries: tuple[str, bytes],
    method: int = zipfile.ZIP_STORED,
    change: Callable[[zipfile.ZipInfo], None] | None = None,
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            if change:
                change(entry)
            file.writestr(entry, content)
    return buffer.getvalue()


def as_link(entry: zipfile.ZipInfo) -> None:
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16


def as_device(entry: zipfile.ZipInfo) -> None:
    entry.create_system, entry.external_attr = 3, (stat.S_IFCHR | 0o666) << 16


def encrypted() -> bytes:
    made = bytearray(zipped(("a.txt", b"one")))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.index(signature) + flags] |= 1
    return bytes(made)


def named(raw: bytes) -> bytes:
    """A zip whose one entry has a name that Python would not write."""
    return zipped(("x" * len(raw), b"one")).replace(b"x" * len(raw), raw)


def lying() -> bytes:
    """A bomb whose entry says that it is as small as it looks."""
    made = bytearray(zipped(("a.txt", bytes(50 * 2**20)), method=zipfile.ZIP_DEFLATED))
    for signature, size in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = made.index(signature) + size
        made[place : place + 4] = struct.pack("<I", 100)
    return bytes(made)


BOMB = zipped(("a.txt", bytes(10**6)), method=zipfile.ZIP_DEFLATED)


def test_files_come_back_as_they_were() -> None:
    unpacked = unpack(pack(FILES, MOMENT))
    assert unpacked.files == FILES
    assert unpacked.damaged == {}


def test_the_order_of_the_files_makes_no_difference() -> None:
    assert pack(FILES, MOMENT) == pack(dict(reversed(FILES.items())), MOMENT)


def test_every_entry_has_the_given_date_plain_permissions_and_no_compression() -> None:
    entries = zipfile.ZipFile(io.BytesIO(pack(FILES, MOMENT))).infolist()
    assert [entry.filename for entry in entries] == sorted(FILES)
    assert {entry.date_time for entry in entries} == {(2026, 11, 18, 11, 6, 40)}
    assert {entry.external_attr >> 16 for entry in entries} == {stat.S_IFREG | 0o644}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize(("moment", "year"), [(0, 1980), (5_000_000_000_000, 2107)])
def test_a_date_that_a_zip_cannot_hold_is_brought_into_range(moment: int, year: int) -> None:
    (entry,) = zipfile.ZipFile(io.BytesIO(pack({"a": b""}, moment))).infolist()
    assert entry.date_time[0] == year


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", "a b", "", ".hidden", "a/../b", "ä", "a\n"])
def test_a_name_that_could_not_be_read_again_is_not_packed(name: str) -> None:
    with pytest.raises(ArchiveError, match="no name that a file in it may have"):
        pack({name: b""}, MOMENT)


def test_what_another_program_zips_anew_is_read() -> None:
    made = zipped(("b/", b""), *FILES.items(), method=zipfile.ZIP_DEFLATED)
    assert unpack(made).files == FILES


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "no zip", id="nothing"),
        pytest.param(b"PK\x03\x04 but no more", "no zip", id="a beginning"),
        pytest.param(pack(FILES, MOMENT)[:-10], "no zip", id="cut off"),
        pytest.param(zipped(("../../evil.txt", b"x")), "'../../evil.txt' is no name", id="slip"),
        pytest.param(zipped(("a/../../evil.txt", b"x")), "'a/../../evil.txt' is no name", id="slip inside"),
        pytest.param(zipped(("/etc/evil", b"x")), "'/etc/evil' is no name", id="absolute"),
        pytest.param(zipped(("C:/evil", b"x")), "'C:/evil' is no name", id="drive"),
        pytest.param(named(b"a\\..\\evil"), "is no name", id="backslash"),
        pytest.param(named(b"a.txt\x00.png"), "is no name", id="NUL"),
        pytest.param(zipped(("../", b"")), "'../' is no name", id="folder outside"),
        pytest.param(zipped(("a/link", b"/etc/passwd"), change=as_link), "a/link is a link", id="link"),
        pytest.param(zipped(("a/link/", b""), change=as_link), "is no name", id="link to a folder"),
        pytest.param(zipped(("a/zero", b""), change=as_device), "a/zero is a link or another special", id="device"),
        pytest.param(encrypted(), "a.txt is encrypted", id="encrypted"),
        pytest.param(zipped(("a.txt", b"x"), method=zipfile.ZIP_LZMA), "a.txt is packed by method 14", id="method"),
        pytest.param(BOMB, "a.txt grows from .* refused as a bomb", id="bomb"),
    ],
)
def test_a_hostile_zip_is_refused_and_the_entry_named(content: bytes, said: str) -> None:
    with pytest.raises(ArchiveError, match=said):
        unpack(content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["a.txt", "A.TXT"])
def test_a_name_that_is_there_twice_is_refused(again: str) -> None:
    with pytest.raises(ArchiveError, match=f"{again} is there twice"):
        unpack(zipped(("a.txt", b"one"), (again, b"two")))


def test_a_bomb_that_lies_about_its_size_unpacks_no_more_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    opened = zlib.decompressobj

    class Counting:
        def __init__(self, window: int) -> None:
            self.inner = opened(window)

        def decompress(self, data: bytes, most: int) -> bytes:
            asked.append(most)
            return self.inner.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    monkeypatch.setattr(zipfile.zlib, "decompressobj", Counting)  # type: ignore[attr-defined]
    monkeypatch.setattr(archive, "MOST_RATIO", 10**9)
    unpacked = unpack(lying())
    assert list(unpacked.damaged) == ["a.txt"]
    assert asked and max(asked) <= 4096  # Python's least


def test_too_many_files_and_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = zipped(*((f"{number}.txt", b"") for number in range(11)))
    deflated = zipped(("a.txt", bytes(5000)), ("b.txt", bytes(5000)), method=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(archive, "MOST_FILES", 10)
    with pytest.raises(ArchiveError, match="11 files are too many; allowed: 10"):
        unpack(made)
    monkeypatch.setattr(archive, "MOST_RATIO", 10**9)
    monkeypatch.setattr(archive, "MOST_BYTES", 9_999)
    with pytest.raises(ArchiveError, match="10,000 bytes are too many; allowed: 9,999"):
        unpack(deflated)


def test_a_damaged_file_is_named_and_the_others_are_read() -> None:
    made = pack(FILES, MOMENT).replace(b"1,2\n", b"1,3\n")
    unpacked = unpack(made)
    assert list(unpacked.damaged) == ["b/two.csv"]
    assert sorted(unpacked.files) == ["a.txt", "b/empty.txt"]


@settings(max_examples=200)
@given(content=st.binary(max_size=300))
@pytest.mark.fault("any-input", note="bundles")
def test_arbitrary_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ArchiveError):
        unpack(content)


@settings(max_examples=400)
@given(data=st.data())
@pytest.mark.fault("any-input", note="bundles")
def test_a_changed_zip_is_read_or_refused_but_never_worse(data: st.DataObject) -> None:
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    content = bytearray(zipped(*FILES.items(), method=method))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpacked = unpack(bytes(content))
    except ArchiveError as error:
        assert "\n" not in str(error)
    else:
        assert all(PurePosixPath(name).parts == tuple(name.split("/")) for name in unpacked.files)
