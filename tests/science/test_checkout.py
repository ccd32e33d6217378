"""What git says of the repository, and the package as another commit has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fashion_cnn.checkout import checkout, ever_had, export, without_credentials


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "fashion_cnn").mkdir()
    (tmp_path / "fashion_cnn" / "a.py").write_text("x = 1\n")
    (tmp_path / "README.md").write_text("r\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def test_a_clean_checkout_has_no_diff(repository: Path) -> None:
    found = checkout(repository)
    assert len(found.commit) == 40 and not found.dirty and found.diff == ""


def test_a_changed_package_is_dirty_and_its_diff_is_kept(repository: Path) -> None:
    (repository / "fashion_cnn" / "a.py").write_text("x = 2\n")
    found = checkout(repository)
    assert found.dirty and "+x = 2" in found.diff


def test_a_changed_readme_is_not(repository: Path) -> None:
    (repository / "README.md").write_text("other\n")
    assert not checkout(repository).dirty


def test_untracked_files_are_dirty_but_never_shown(repository: Path) -> None:
    (repository / "fashion_cnn" / "secret.py").write_text("token = 's3cret'\n")
    found = checkout(repository)
    assert found.dirty and "s3cret" not in found.diff


def test_a_file_had_what_any_commit_had_and_what_it_has_now(repository: Path) -> None:
    path = repository / "README.md"
    path.write_text("second\n")
    git(repository, "commit", "-qam", "two")
    path.write_text("third\n")
    had = [text for text in ("r\n", "second\n", "third\n", "x = 1\n", "") if ever_had(path, text.encode(), repository)]
    assert had == ["r\n", "second\n", "third\n"]


def test_without_git_a_file_had_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n")
    assert ever_had(tmp_path / "a", b"one\n", tmp_path) and not ever_had(tmp_path / "a", b"two\n", tmp_path)
    assert not ever_had(tmp_path / "b", b"one\n", tmp_path)


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path) -> None:
    assert checkout(tmp_path).commit == "unknown"


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://user:s3cret@example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://s3cret@example.org:8443/a", "https://example.org:8443/a"),
        ("https://example.org/a?private_token=s3cret#s3cret", "https://example.org/a"),
        ("https://example.org?token=s3cret", "https://example.org"),
        ("ssh://git:s3cret@example.org:22/a", "ssh://example.org:22/a"),
        ("git@example.org:a/b.git", "example.org:a/b.git"),
        ("user:s3cret@example.org:a/b.git", "example.org:a/b.git"),
        # What cannot be taken apart for sure is not kept.
        ("https://user:s3c/ret@example.org/a", None),
        ("https://user:s3c?ret@example.org/a", None),
        ("https://user:s3c#ret@example.org/a", None),
        ("git@example.org:s3cret@a", None),
        ("ext::sh -c 's3cret'", None),
        # Folders are nobody else's matter.
        ("/srv/somebody/fashion", None),
        ("../fashion", None),
        ("file:///srv/somebody/fashion", None),
        ("", None),
    ],
)
def test_a_remote_is_kept_without_credentials(address: str, kept: str | None) -> None:
    assert without_credentials(address) == kept


def test_a_checkout_names_its_remote_as_it_is_written_without_credentials(repository: Path) -> None:
    assert checkout(repository).remote is None
    git(repository, "remote", "add", "mirror", "https://user:s3cret@example.org/mirror.git")
    assert checkout(repository).remote == "https://example.org/mirror.git"
    git(repository, "remote", "add", "origin", "https://user:s3cret@example.org/fashion.git")
    git(repository, "config", "url.https://example.org/s3cret/.insteadOf", "https://user:s3cret@example.org/")
    assert checkout(repository).remote == "https://example.org/fashion.git"


class TestExport:
    @pytest.fixture
    def kept(self, tmp_path: Path) -> Path:
        """A repository whose package was changed since the commit."""
        folder = tmp_path / "kept"
        (folder / "fashion_cnn").mkdir(parents=True)
        for name in ("data.py", "models.py"):
            (folder / "fashion_cnn" / name).write_text(f"# {name}\nx = 1\n")
        git(folder, "init", "-q")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "one")
        (folder / "fashion_cnn" / "models.py").write_text("# models.py\nx = 2\n")
        return folder

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        (tmp_path / "place").mkdir()
        return tmp_path / "place"

    def test_a_commit_and_its_diff_give_the_code_that_was_run(self, kept: Path, place: Path) -> None:
        found = checkout(kept)
        (kept / "fashion_cnn" / "models.py").write_text("# another\n")
        assert export(found.commit, found.diff, place, kept)
        assert (place / "fashion_cnn" / "models.py").read_text() == "# models.py\nx = 2\n"
        assert (place / "fashion_cnn" / "data.py").read_text() == "# data.py\nx = 1\n"
        assert (
            checkout(kept).commit == found.commit and (kept / "fashion_cnn" / "models.py").read_text() == "# another\n"
        )

    def test_a_users_own_settings_change_nothing(self, kept: Path, place: Path) -> None:
        settings = (
            ("diff.noprefix", "true"),
            ("color.diff", "always"),
            ("diff.external", "false"),
            ("core.autocrlf", "true"),
        )
        found = checkout(kept)
        for name, value in settings:
            git(kept, "config", name, value)
        assert checkout(kept).diff == found.diff
        assert export(found.commit, found.diff, place, kept)
        assert (place / "fashion_cnn" / "models.py").read_bytes() == b"# models.py\nx = 2\n"
        assert (place / "fashion_cnn" / "data.py").read_bytes() == b"# data.py\nx = 1\n"

    @pytest.mark.parametrize("commit", ["unknown", "", "HEAD", "--help", "0" * 40, "a; true"])
    def test_a_commit_that_is_not_there_gives_nothing(self, kept: Path, place: Path, commit: str) -> None:
        assert not export(commit, "", place, kept)
        assert not (place / "fashion_cnn").exists()

    def test_a_diff_that_does_not_fit_gives_nothing(self, kept: Path, tmp_path: Path) -> None:
        found = checkout(kept)
        for number, diff in enumerate((found.diff.replace("-x = 1", "-x = 3"), "no diff\n")):
            (tmp_path / str(number)).mkdir()
            assert not export(found.commit, diff, tmp_path / str(number), kept)

    def test_a_diff_cannot_write_elsewhere(self, kept: Path, place: Path) -> None:
        hostile = "--- /dev/null\n+++ b/../../../escaped.py\n@@ -0,0 +1 @@\n+x\n"
        export(checkout(kept).commit, hostile, place, kept)
        assert not [path for folder in place.parents for path in folder.glob("escaped.py")]
