"""What a run used: the fingerprint holds what can change bits, and no secret."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_cnn.environment import (
    NUMBER_MODULES,
    PACKAGE,
    EnvironmentFault,
    checkout,
    code_sha256,
    fingerprint,
    fingerprint_sha256,
    packages,
    sources,
    without_credentials,
    worker_variables,
)


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


def test_it_names_what_can_change_bits() -> None:
    values = fingerprint(1)
    assert {"python", "tensorflow", "keras", "numpy", "c_library", "processor", "vector_flags", "threads"} <= set(
        values
    )
    assert values["tensorflow"].startswith("2.") and values["processor"] and values["vector_flags"]


def test_another_number_of_threads_is_another_environment() -> None:
    assert fingerprint_sha256(fingerprint(1)) != fingerprint_sha256(fingerprint(2))


def test_a_variable_of_onednn_is_another_environment_and_a_path_is_not() -> None:
    plain = fingerprint(1, variables={})
    assert fingerprint(1, variables={"TF_ENABLE_ONEDNN_OPTS": "0"}) != plain
    assert fingerprint(1, variables={"PATH": "/x", "HOME": "/y"}) == plain


def test_onednn_is_chosen_unless_the_user_says_otherwise() -> None:
    assert fingerprint(1, variables={})["variables"]["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert fingerprint(1, variables={"TF_ENABLE_ONEDNN_OPTS": "0"})["variables"]["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_a_token_in_the_environment_is_never_taken() -> None:
    values = fingerprint(1, variables={"API_TOKEN": "s3cret", "MLFLOW_TRACKING_PASSWORD": "s3cret"})
    assert "s3cret" not in json.dumps(values)


def test_runner_and_worker_see_the_same_environment() -> None:
    code = "import json; from fashion_cnn.environment import fingerprint; print(json.dumps(fingerprint(1)))"
    import os

    seen = subprocess.run(
        [sys.executable, "-c", code],
        env=worker_variables(os.environ, "cpu"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(seen.stdout) == fingerprint(1)


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentFault, match="use --device cpu"):
        fingerprint(1, "gpu")


def test_the_code_hash_covers_the_modules_that_decide_numbers_and_no_other(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "fashion_cnn", ignore=shutil.ignore_patterns("__pycache__"))
    assert code_sha256(copy) == code_sha256()
    (copy / "cli.py").write_text("# changed\n")
    assert code_sha256(copy) == code_sha256()
    for name in NUMBER_MODULES:
        before = code_sha256(copy)
        with (copy / name).open("a") as file:
            file.write("\n")
        assert code_sha256(copy) != before


def test_packages_are_pinned_lines() -> None:
    assert any(line.startswith("tensorflow==") for line in packages())


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


class TestSources:
    @pytest.fixture
    def kept(self, tmp_path: Path) -> Path:
        """A repository with the modules that decide numbers, one of them changed since the commit."""
        (tmp_path / "fashion_cnn").mkdir()
        for name in NUMBER_MODULES:
            (tmp_path / "fashion_cnn" / name).write_text(f"# {name}\nx = 1\n")
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", "one")
        (tmp_path / "fashion_cnn" / "models.py").write_text("# models.py\nx = 2\n")
        return tmp_path

    def test_a_commit_and_its_diff_give_the_code_that_was_run(self, kept: Path) -> None:
        found = checkout(kept)
        before = (kept / "fashion_cnn" / "models.py").read_text()
        (kept / "fashion_cnn" / "models.py").write_text("# another\n")
        texts = sources(found.commit, found.diff, kept)
        assert texts is not None and set(texts) == set(NUMBER_MODULES)
        assert texts["models.py"] == before and texts["data.py"] == "# data.py\nx = 1\n"

    def test_a_users_own_settings_for_diffs_change_nothing(self, kept: Path) -> None:
        for name, value in (("diff.noprefix", "true"), ("color.diff", "always"), ("diff.external", "false")):
            git(kept, "config", name, value)
        found = checkout(kept)
        texts = sources(found.commit, found.diff, kept)
        assert texts is not None and texts["models.py"] == "# models.py\nx = 2\n"

    @pytest.mark.parametrize("commit", ["unknown", "", "HEAD", "--help", "0" * 40, "a; true"])
    def test_a_commit_that_is_not_there_gives_none(self, kept: Path, commit: str) -> None:
        assert sources(commit, "", kept) is None

    def test_a_diff_that_does_not_fit_gives_none(self, kept: Path) -> None:
        found = checkout(kept)
        assert sources(found.commit, found.diff.replace("-x = 1", "-x = 3"), kept) is None
        assert sources(found.commit, "no diff\n", kept) is None

    def test_a_diff_cannot_write_elsewhere(self, kept: Path, tmp_path: Path) -> None:
        commit = checkout(kept).commit
        hostile = "--- /dev/null\n+++ b/../../../escaped.py\n@@ -0,0 +1 @@\n+x\n"
        sources(commit, hostile, kept)
        assert not list(Path(tmp_path.anchor).glob("escaped.py")) and not (tmp_path.parent / "escaped.py").exists()
