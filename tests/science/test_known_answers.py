"""The known answers: this machine gives them, a lower instruction set does not, and what is said then."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments import STUDIES
from fashion_cnn import known_answers
from fashion_cnn.config import RunConfig
from fashion_cnn.environment import KERNELS, Choice, EnvironmentFault, choose
from fashion_cnn.known_answers import PROBLEMS, QUICK, TRAINED, differing, emulate, known, settled, versions
from fashion_cnn.sample import epoch_images
from fashion_cnn.sources import code_sha256


def test_they_are_of_this_code_and_of_the_locked_versions() -> None:
    assert known()["code_sha256"] == code_sha256(), "python -m fashion_cnn.known_answers --write, and say why in LOG.md"
    assert known()["versions"] == versions()
    assert known()["answers"].keys() == PROBLEMS.keys()


def test_each_network_of_the_studies_is_among_them() -> None:
    def network(config: RunConfig) -> tuple[Any, ...]:
        return config.model, config.filters, config.additional_convolutions, config.padding

    wanted = {network(config) for study in STUDIES for config in study.arms.values()}
    assert wanted <= {network(config) for config in PROBLEMS.values()}


def test_each_way_to_choose_images_and_each_size_of_a_last_step_is_among_them() -> None:
    """A kernel may be another for another number of images."""

    def images(config: RunConfig) -> tuple[Any, ...]:
        return config.augmentation, config.split

    configs = [config for study in STUDIES for config in study.arms.values()]
    assert {images(config) for config in configs} <= {images(config) for config in PROBLEMS.values()}
    last = {epoch_images(config) % config.batch_size for config in configs}
    assert last - {0} <= {epoch_images(config, TRAINED) % config.batch_size for config in PROBLEMS.values()}


@pytest.mark.slow
def test_this_machine_gives_them() -> None:
    if reason := choose(None).reason:
        pytest.skip(reason)
    assert differing(quick=False) == []


@pytest.mark.slow
def test_a_lower_instruction_set_gives_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lower = {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    monkeypatch.setitem(KERNELS, "portable", lower)
    assert set(differing(quick=True)) == set(QUICK)


@pytest.mark.slow
def test_an_emulated_processor_of_another_maker_gives_them() -> None:
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("no qemu-x86_64 here; apt-get install qemu-user")
    assert emulate("Haswell", QUICK) == []


def test_without_an_emulator_it_is_told_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert known_answers.main(["--emulated", "Haswell"]) == 2
    assert capsys.readouterr().err == "error: no emulator is installed: apt-get install qemu-user\n"


class TestAMachineThatFails:
    @pytest.fixture(autouse=True)
    def _apart(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(known_answers, "choose", lambda asked, **_: Choice("portable"))

    def answering(self, monkeypatch: pytest.MonkeyPatch, others: list[str]) -> list[bool]:
        asked: list[bool] = []

        def differ(*, quick: bool, solve: object) -> list[str]:
            asked.append(quick)
            return others

        monkeypatch.setattr(known_answers, "differing", differ)
        return asked

    def test_it_trains_as_native_and_says_so_and_is_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.answering(monkeypatch, ["dense"])
        for _ in range(2):
            choice = settled(None)
            assert choice.arithmetic == "native" and "answers otherwise than is known: dense" in choice.reason
        assert asked == [True]
        with pytest.raises(EnvironmentFault, match="use --arithmetic native"):
            settled("portable")

    def test_one_that_answers_is_portable_and_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.answering(monkeypatch, [])
        assert [settled(None), settled("portable")] == [Choice("portable")] * 2 and asked == [True]

    def test_other_packages_or_another_boot_are_asked_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.answering(monkeypatch, [])
        settled(None)
        monkeypatch.setattr(known_answers, "_machine_key", lambda: "another")
        settled(None)
        assert len(asked) == 2

    def test_without_a_cache_folder_it_is_asked_each_time(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        asked = self.answering(monkeypatch, [])
        assert settled(None) == settled(None) == Choice("portable") and len(asked) == 2

    def test_a_damaged_cache_is_asked_again(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        asked = self.answering(monkeypatch, [])
        settled(None)
        (tmp_path / "fashion-cnn" / "known_answers.json").write_text("{", encoding="utf-8")
        assert settled(None) == Choice("portable") and len(asked) == 2


def test_other_versions_have_no_known_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_answers, "versions", lambda: {"tensorflow": "9"})
    with pytest.raises(EnvironmentFault, match="answers are known for tensorflow"):
        differing(quick=True)


def test_other_code_has_no_known_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_answers, "code_sha256", lambda: "0" * 64)
    with pytest.raises(EnvironmentFault, match="no answers are known for this code"):
        differing(quick=True)


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "portable", {"KERAS_BACKEND": "tensorflow"})
    monkeypatch.setattr(known_answers, "worker_variables", lambda *_: {**os.environ, "PYTHONPATH": "/nowhere"})
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(EnvironmentFault, match="could not be computed: it printed nothing"):
        differing(quick=True)


def test_the_file_is_json_with_a_line_an_answer() -> None:
    text = known_answers.FILE.read_text(encoding="utf-8")
    assert json.loads(text) == known() and text.endswith("}\n")
