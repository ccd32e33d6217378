"""What the actions of all commands share: a file that cannot be written, and which errors are shown as they are."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from fashion_cnn.cli.actions import FAILED, WRONG, OutputError, guarded, write_output
from fashion_cnn.study import StudyError


def test_an_output_is_written_with_the_folders_it_lies_in(tmp_path: Path) -> None:
    write_output(tmp_path / "a" / "b" / "page.html", b"<p>")
    assert (tmp_path / "a" / "b" / "page.html").read_bytes() == b"<p>"


@pytest.mark.parametrize("option", ["--output", "--figures"])
def test_an_output_below_a_file_is_refused_with_the_option_that_names_it(tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError) as caught:
        write_output(tmp_path / "file" / "page.html", b"<p>", option=option)
    assert str(caught.value) == f"{tmp_path / 'file'} cannot be written (File exists); name another with {option}"
    assert (tmp_path / "file").read_text() == "kept"


def test_a_full_disk_is_told_with_the_files_name_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    with pytest.raises(OutputError) as caught:
        write_output(tmp_path / "bundle.zip", b"PK")
    assert str(caught.value).startswith(f"{tmp_path / 'bundle.zip'} cannot be written (No space left on device);")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [StudyError("there is no study"), OutputError("it cannot be written")])
def test_an_error_made_for_people_is_one_line_and_wrong_use(
    error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    def action() -> int:
        raise error

    assert guarded(action, debug=False) == WRONG
    assert capfd.readouterr().err == f"error: {error}\n"


def test_any_other_error_is_named_with_the_way_to_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def action() -> int:
        raise KeyError("a\nb")

    assert guarded(action, debug=False) == FAILED
    assert capfd.readouterr().err == r"error: KeyError: 'a\nb' (--debug shows where)" + "\n"
    with pytest.raises(KeyError):
        guarded(action, debug=True)
