"""The set-up files agree with each other, and name no machine and no package index."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from experiments import SCRIPTS
from tests.support.command import Lab

ROOT = Path(__file__).parents[2]
EXTRAS = {"cluster": {"ray", "psycopg"}, "notebook": {"jupyterlab"}}
LOCKS = {name: (ROOT / f"requirements-{name}.lock").read_text("utf-8") for name in EXTRAS}
LOCK = "".join([(ROOT / "requirements.lock").read_text("utf-8"), *LOCKS.values()])
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked() -> list[tuple[Requirement, list[str]]]:
    """Every requirement of the three locks, with its hashes."""
    lines = re.sub(r"\\\n", " ", LOCK).splitlines()
    entries = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [
        (Requirement(requirement), hashes)
        for requirement, *hashes in (re.split(r"\s+--hash=", entry.strip()) for entry in entries)
    ]


def locked_versions(name: str) -> list[Version]:
    """The versions of a package in the locks: two where Pythons differ, none where it is missing."""
    return [
        Version(str(requirement.specifier).removeprefix("=="))
        for requirement, _ in locked()
        if canonicalize_name(requirement.name) == canonicalize_name(name)
    ]


def test_every_requirement_of_the_lock_is_one_version_with_hashes() -> None:
    assert len(locked()) > 50
    for requirement, hashes in locked():
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        for digest in hashes:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest), requirement


def test_no_address_is_in_the_lock() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*(--?(index|extra-index|find-links|trusted-host)|-[ief]\b)", LOCK, re.MULTILINE)


def test_the_build_backend_is_locked_at_the_version_that_pyproject_pins() -> None:
    (backend,) = (Requirement(line) for line in PYPROJECT["build-system"]["requires"])
    (version,) = locked_versions(backend.name)
    assert str(backend.specifier) == f"=={version}"


@pytest.mark.parametrize(
    "dependency",
    [
        *PYPROJECT["project"]["dependencies"],
        *PYPROJECT["dependency-groups"]["dev"],
        *(dependency for extra in PYPROJECT["project"]["optional-dependencies"].values() for dependency in extra),
    ],
)
def test_every_dependency_is_locked_at_a_version_it_allows(dependency: str) -> None:
    requirement = Requirement(dependency)
    versions = locked_versions(requirement.name)
    assert versions
    assert all(requirement.specifier.contains(version) for version in versions)


@pytest.mark.parametrize("name", EXTRAS)
def test_the_lock_of_extras_holds_only_what_the_others_lack(name: str) -> None:
    lines = [line for line in LOCKS[name].splitlines() if line[:1].isalpha()]
    assert EXTRAS[name] < {canonicalize_name(line.partition("==")[0]) for line in lines}
    others = LOCK.replace(LOCKS[name], "")
    assert not any(re.search(rf"^{re.escape(line.partition('==')[0])}==", others, re.MULTILINE) for line in lines)


@pytest.mark.fault("set-up-moved")
class TestASetUp:
    @pytest.fixture
    def clone(self, tmp_path: Path) -> Path:
        """What make takes for a clone that is set up, in a folder whose name has a space."""
        folder = tmp_path / "a clone"
        folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, folder)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=folder, check=True)
        for stamp in (".packages-stamp", ".installed-stamp"):
            (folder / ".venv" / stamp).touch()
        return folder

    @staticmethod
    def sets_up(folder: Path) -> bool:
        said = subprocess.run(["make", "-n", "ui"], cwd=folder, capture_output=True, text=True, check=True).stdout
        assert "fashion-cnn ui" in said
        return "-m venv --clear .venv" in said

    @pytest.mark.fault("other-variables")
    def test_installs_into_its_environment_whatever_pip_is_told(self, clone: Path) -> None:
        told = {**os.environ, "PIP_USER": "1", "PIP_TARGET": "/nowhere", "PIP_INDEX_URL": "https://example.org"}
        command = ["make", "--eval", "show:; @env | grep ^PIP_ | sort", "show"]
        said = subprocess.run(command, cwd=clone, env=told, capture_output=True, text=True, check=True).stdout
        assert {"PIP_USER=0", "PIP_INDEX_URL=https://example.org"} < set(said.split()) and "/nowhere" not in said

    def test_is_used_where_it_was_made(self, clone: Path, tmp_path: Path) -> None:
        (tmp_path / "linked").symlink_to(clone)
        assert not self.sets_up(clone) and not self.sets_up(tmp_path / "linked")

    def test_that_was_copied_or_moved_is_made_anew(self, clone: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(clone, tmp_path / "copy", symlinks=True)
        assert self.sets_up(copy) and not self.sets_up(clone)
        assert self.sets_up(clone.rename(tmp_path / "clone"))

    def test_whose_python_is_gone_is_made_anew(self, clone: Path) -> None:
        for path in (clone / ".venv" / "bin").glob("python*"):
            path.unlink()
            path.symlink_to("/nowhere/python3")
        assert self.sets_up(clone)


class TestAnInstallationElsewhere:
    def test_as_a_wheel_is_refused_at_once_and_told_how(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
        done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "error: fashion-cnn runs from its checkout" in done.stderr
        assert "pip install --no-deps --no-build-isolation -e ." in done.stderr and "Traceback" not in done.stderr
        assert not list(tmp_path.iterdir())

    def test_as_editable_is_setuptools_own(self) -> None:
        code = "import build_backend as b, setuptools.build_meta as own; print(b.build_editable == own.build_editable)"
        folder = {**os.environ, "PYTHONPATH": str(ROOT / PYPROJECT["build-system"]["backend-path"][0])}
        done = subprocess.run([sys.executable, "-c", code], env=folder, capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"


class TestForContributors:
    def test_every_file_of_make_quick_is_there(self) -> None:
        listed = (ROOT / "Makefile").read_text("utf-8").partition("\nQUICK := ")[2].partition("\nexport")[0]
        rooms = re.findall(r"addprefix (\w+)/test_, ([^)]+)\)", listed.replace("\\\n", " "))
        files = [ROOT / "tests" / room / f"test_{name}" for room, names in rooms for name in names.split()]
        assert len(files) > 20 and [str(path) for path in files if not path.exists()] == []

    def test_the_forges_workflow_runs_what_ci_runs(self) -> None:
        workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
        assert workflow["jobs"]["test"]["steps"][-1] == {"run": ".ci/run"} and os.access(ROOT / ".ci" / "run", os.X_OK)

    def test_the_hooks_are_the_commands_of_make_style(self) -> None:
        (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
        hooks = [hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in local["hooks"]]
        style = (ROOT / "Makefile").read_text("utf-8").partition("\nstyle:")[2].partition("\n\n")[0]
        told = [command.removesuffix(" --check") for command in re.findall(r"@\$\(BIN\)/(.*)", style)]
        assert local["repo"] == "local" and hooks == told

    def test_each_entry_point_for_mlflow_is_a_script(self) -> None:
        points = yaml.safe_load((ROOT / "MLproject").read_text("utf-8"))["entry_points"]
        assert len(points) >= 8 and set(points) <= set(SCRIPTS)
        assert all(point["parameters"]["study"] == {"default": name} for name, point in points.items())


@pytest.mark.slow
def test_mlflow_runs_a_study(tmp_path: Path, made_up: Path) -> None:
    lab = Lab(tmp_path / "lab", made_up)
    lab.folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "filter_study", "--env-manager", "local"]
    done = subprocess.run(
        [*command, "-P", "smoke=1", "-P", "first-seed=3", "-P", "arms=16 filters"],
        cwd=tmp_path, env=lab.variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = lab.runs("filter_study").to_dict("records")
    assert (run["arm"], run["seed"], run["smoke"], run["status"]) == ("16 filters", "3", "true", "FINISHED")


def test_the_conda_environment_installs_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, packages = environment["dependencies"]
    assert (
        Version(python.removeprefix("python="))
        in Requirement(f"python{PYPROJECT['project']['requires-python']}").specifier
    )
    assert pip == "pip"
    assert packages == {"pip": ["-r requirements.lock"]}


def test_the_citation_names_this_project_at_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = PYPROJECT["project"]
    assert citation["title"].startswith(project["name"])
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


def test_no_file_of_the_repository_names_a_path_of_a_machine_or_a_package_index() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    # Assembled here, so that this file contains none of them itself.
    paths = ["/" + folder + "/" for folder in ("work", "root", "home", "Users")]
    hosts = [
        ".".join(labels)
        for labels in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("anaconda", "org"),
            ("anaconda", "com"),
            ("deb", "debian", "org"),
            ("archive", "ubuntu", "com"),
        )
    ]
    forbidden = re.compile(
        "|".join(rf"(?<![\w.]){re.escape(text)}" for text in paths) + "|" + "|".join(re.escape(text) for text in hosts)
    )
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    named = []
    for name in filter(None, listing.split("\0")):
        try:
            text = (ROOT / name).read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # a binary file, or one just removed
        named += [f"{name}: {match.group()}" for match in forbidden.finditer(text)]
    assert named == []
