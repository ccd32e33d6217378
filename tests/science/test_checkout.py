"""What git says of the repository, and the package as another commit has it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
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
    assert len(found.commit) == 40 and not found.dirty and found.diff == "" and found.lacks is None


def test_a_changed_package_is_dirty_and_its_diff_is_kept(repository: Path) -> None:
    (repository / "fashion_cnn" / "a.py").write_text("x = 2\n")
    found = checkout(repository)
    assert found.dirty and "+x = 2" in found.diff and found.lacks is None


def test_a_changed_readme_is_not(repository: Path) -> None:
    (repository / "README.md").write_text("other\n")
    assert not checkout(repository).dirty


def test_untracked_files_are_dirty_but_never_shown(repository: Path) -> None:
    (repository / "fashion_cnn" / "secret.py").write_text("token = 's3cret'\n")
    found = checkout(repository)
    assert found.dirty and "s3cret" not in found.diff
    assert found.lacks is not None and "commit them first" in found.lacks


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
    found = checkout(tmp_path)
    assert found.commit == "unknown" and found.lacks is not None and "work in a clone" in found.lacks


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


def ignoring(folder: Path) -> Path:
    """A user's own list of files that git shall not see."""
    path = folder / "ignore"
    path.write_text("queue.py\n")
    return path


UNTRACKED = "fashion_cnn/queue.py"
HIDING: dict[str, Callable[[Path], None]] = {
    "untracked files are not shown": lambda folder: git(folder, "config", "status.showUntrackedFiles", "no"),
    "a file is ignored": lambda folder: git(folder, "config", "core.excludesFile", str(ignoring(folder.parent))),
    "the index takes a file for unchanged": lambda folder: git(
        folder, "update-index", "--assume-unchanged", "fashion_cnn/a.py"
    ),
    "the index leaves a file out": lambda folder: git(folder, "update-index", "--skip-worktree", "fashion_cnn/a.py"),
}


@pytest.mark.fault("any-git")
class TestUnderAnyGit:
    def test_a_repository_around_is_not_ours(self, repository: Path) -> None:
        git(repository, "remote", "add", "origin", "https://example.org/private.git")
        unpacked = repository / "unpacked"
        (unpacked / "fashion_cnn").mkdir(parents=True)
        found = checkout(unpacked)
        assert (found.commit, found.remote) == ("unknown", None) and checkout(repository).remote is not None

    def test_a_hooks_variables_name_no_other(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = checkout(repository)
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
        monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("GIT_WORK_TREE", "/")
        assert checkout(repository) == plain and len(plain.commit) == 40

    @pytest.mark.parametrize("hidden", HIDING)
    def test_nothing_that_may_run_is_hidden(self, repository: Path, hidden: str) -> None:
        HIDING[hidden](repository)
        assert not checkout(repository).dirty
        (repository / ("fashion_cnn/a.py" if "index" in hidden else UNTRACKED)).write_text("x = 3\n")
        assert checkout(repository).dirty

    def test_compiled_modules_count_for_nothing(self, repository: Path) -> None:
        (repository / ".git" / "info" / "exclude").write_text("__pycache__\n")
        (repository / "fashion_cnn" / "__pycache__").mkdir()
        (repository / "fashion_cnn" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"x")
        assert not checkout(repository).dirty

    @pytest.mark.parametrize("asked", ["read-tree", "diff-index", "ls-files"])
    def test_where_git_does_not_answer_nothing_is_taken_for_clean(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
    ) -> None:
        (tmp_path / "bin").mkdir()
        path = tmp_path / "bin" / "git"
        path.write_text(f'#!/bin/sh\ncase " $* " in *" {asked} "*) exit 1;; esac\nPATH=${{PATH#*:}} exec git "$@"\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        assert checkout(repository).commit == "unknown"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_another_users_checkout_is_read(self, repository: Path) -> None:
        for path in (repository, *repository.rglob("*")):
            os.chown(path, 65534, 65534)
        assert len(checkout(repository).commit) == 40


MODULES = ("data.py", "models.py")


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
        assert export(found.commit, found.diff, place, MODULES, kept)
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
            ("diff.context", "0"),
            ("diff.relative", "true"),
            ("diff.orderFile", "/nowhere"),
            ("core.autocrlf", "true"),
        )
        found = checkout(kept)
        for name, value in settings:
            git(kept, "config", name, value)
        assert checkout(kept).diff == found.diff
        assert export(found.commit, found.diff, place, MODULES, kept)
        assert (place / "fashion_cnn" / "models.py").read_bytes() == b"# models.py\nx = 2\n"
        assert (place / "fashion_cnn" / "data.py").read_bytes() == b"# data.py\nx = 1\n"

    @pytest.mark.parametrize("commit", ["unknown", "", "HEAD", "--help", "0" * 40, "a; true"])
    def test_a_commit_that_is_not_there_gives_nothing(self, kept: Path, place: Path, commit: str) -> None:
        assert not export(commit, "", place, MODULES, kept)
        assert not (place / "fashion_cnn").exists()

    def test_a_diff_that_does_not_fit_gives_nothing(self, kept: Path, tmp_path: Path) -> None:
        found = checkout(kept)
        for number, diff in enumerate((found.diff.replace("-x = 1", "-x = 3"), "no diff\n")):
            (tmp_path / str(number)).mkdir()
            assert not export(found.commit, diff, tmp_path / str(number), MODULES, kept)

    def test_of_a_diff_the_named_modules_count_alone(self, kept: Path, place: Path) -> None:
        entry = Path("fashion_cnn", "entry.py")
        (kept / entry).write_text("print('as is committed')\n")
        git(kept, "add", str(entry))
        git(kept, "commit", "-qm", "two")
        (kept / entry).write_text("print('as they like')\n")
        found = checkout(kept)
        assert "as they like" in found.diff
        assert export(found.commit, found.diff, place, MODULES, kept)
        assert (place / entry).read_text() == "print('as is committed')\n"
        assert (place / "fashion_cnn" / "models.py").read_text() == "# models.py\nx = 2\n"

    def test_a_diff_cannot_write_elsewhere(self, kept: Path, place: Path) -> None:
        hostile = "--- /dev/null\n+++ b/../../../escaped.py\n@@ -0,0 +1 @@\n+x\n"
        export(checkout(kept).commit, hostile, place, MODULES, kept)
        assert not [path for folder in place.parents for path in folder.glob("escaped.py")]

    @pytest.mark.fault("any-git")
    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n", id="no UTF-8"),
            pytest.param(b"# models.py\r\nx = 2\r\n", id="the line ends of Windows"),
            pytest.param(b"# models.py\rx = 2\n\ty = 3 \n", id="those of an old Macintosh, and spaces at the end"),
            pytest.param("# modèles\nx = 'ł'\n".encode(), id="UTF-8"),
            pytest.param(b"x = '\0'", id="binary"),
        ],
    )
    def test_the_diff_gives_the_very_bytes_whatever_they_are(self, kept: Path, content: bytes) -> None:
        path = kept / "fashion_cnn" / "models.py"
        git(kept, "config", "apply.whitespace", "fix")
        place = kept / "place"  # within a repository, as a TMPDIR may be
        place.mkdir()
        for before in (b"# models.py\nx = 1\n", b"# mod\xe8les\r\nx = 1\r\n"):
            path.write_bytes(before)
            git(kept, "commit", "-qam", "before", "--allow-empty")
            path.write_bytes(content)
            found = checkout(kept)
            aside = place / found.commit
            aside.mkdir()
            assert export(found.commit, json.loads(json.dumps(found.diff)), aside, MODULES, kept)
            assert (aside / "fashion_cnn" / "models.py").read_bytes() == content
