"""What a run is computed with: two arithmetics, the fingerprint that holds what can change bits, and no secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fashion_cnn import environment
from fashion_cnn.environment import (
    Choice,
    EnvironmentFault,
    choose,
    fingerprint,
    fingerprint_sha256,
    machine,
    packages,
    worker_variables,
)

ABLE = ["avx", "avx2", "fma", "sse2"]


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A processor that can be portable, whatever this one is."""
    monkeypatch.setattr(environment, "_processor", lambda: ("Some Processor", ABLE))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return monkeypatch


class TestTheChoice:
    def test_portable_is_taken_where_the_processor_can(self, able: pytest.MonkeyPatch) -> None:
        assert choose(None, variables={}) == choose("portable", variables={}) == Choice("portable")

    def test_native_is_taken_where_it_is_asked_for(self, able: pytest.MonkeyPatch) -> None:
        assert choose("native", variables={}) == Choice("native")

    @pytest.mark.parametrize("lacking", ["avx2", "fma"])
    def test_a_processor_that_lacks_something_is_native_and_says_so(
        self, able: pytest.MonkeyPatch, lacking: str
    ) -> None:
        able.setattr(environment, "_processor", lambda: ("Old", [flag for flag in ABLE if flag != lacking]))
        choice = choose(None, variables={})
        assert choice.arithmetic == "native" and lacking.upper() in choice.reason
        with pytest.raises(EnvironmentFault, match=r"arithmetic is portable, but .*use --arithmetic native"):
            choose("portable", variables={})

    @pytest.mark.parametrize(
        ("name", "value"),
        [("ONEDNN_MAX_CPU_ISA", "SSE41"), ("TF_ENABLE_ONEDNN_OPTS", "0"), ("DNNL_MAX_CPU_ISA", "AVX512_CORE")],
    )
    def test_a_variable_that_contradicts_it_makes_the_run_native_with_the_variable_in_its_identity(
        self, able: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        choice = choose(None, variables={name: value})
        assert choice.arithmetic == "native" and f"{name}={value}" in choice.reason
        assert fingerprint(1, arithmetic="native", variables={name: value})["variables"][name] == value
        with pytest.raises(EnvironmentFault, match=f"{name}={value}"):
            choose("portable", variables={name: value})

    def test_a_variable_that_says_the_same_contradicts_nothing(self, able: pytest.MonkeyPatch) -> None:
        same = {"ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": "1", "KERAS_BACKEND": "jax"}
        assert choose("portable", variables=same) == Choice("portable")

    def test_more_threads_and_a_gpu_are_native(self, able: pytest.MonkeyPatch) -> None:
        assert choose(None, threads=2, variables={}).reason == "a run has 2 threads"
        assert choose(None, device="gpu", variables={}).reason == "the device is gpu"


def test_the_portable_identity_holds_no_processor_and_no_python() -> None:
    values = fingerprint(1)
    assert set(values) == {
        "arithmetic", "tensorflow", "keras", "numpy", "c_library", "machine", "threads", "device", "variables",
    }  # fmt: skip
    assert values["variables"]["ONEDNN_MAX_CPU_ISA"] == "AVX2" and values["tensorflow"].startswith("2.")


def test_the_native_identity_holds_the_processor_and_its_flags() -> None:
    values = fingerprint(1, arithmetic="native")
    assert values["processor"] and values["vector_flags"]


def test_two_processors_have_one_portable_environment_and_two_native_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for processor in (("A", ABLE), ("B", [*ABLE, "avx512f"])):
        monkeypatch.setattr(environment, "_processor", lambda given=processor: given)
        seen.append([fingerprint_sha256(fingerprint(1, arithmetic=name)) for name in environment.ARITHMETICS])
    (portable, native), (other_portable, other_native) = seen
    assert portable == other_portable and native != other_native and portable != native


def test_the_machine_is_described_beside_it() -> None:
    described = machine()
    assert {"python", "processor", "vector_flags", "caches", "cores", "kernel", "memory_mib", "load"} == set(described)
    assert described["cores"] >= 1 and json.loads(json.dumps(described)) == described


def test_another_number_of_threads_is_another_environment() -> None:
    assert fingerprint_sha256(fingerprint(1)) != fingerprint_sha256(fingerprint(2))


def test_a_variable_of_onednn_is_another_native_environment_and_a_path_is_not() -> None:
    plain = fingerprint(1, arithmetic="native", variables={})
    assert fingerprint(1, arithmetic="native", variables={"TF_ENABLE_ONEDNN_OPTS": "0"}) != plain
    assert fingerprint(1, arithmetic="native", variables={"PATH": "/x", "HOME": "/y"}) == plain


def test_onednn_is_chosen_unless_a_native_user_says_otherwise() -> None:
    for arithmetic, kept in (("native", "0"), ("portable", "1")):
        chosen = worker_variables({"TF_ENABLE_ONEDNN_OPTS": "0"}, "cpu", arithmetic)  # type: ignore[arg-type]
        assert chosen["TF_ENABLE_ONEDNN_OPTS"] == kept
    assert worker_variables({}, "cpu", "native")["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert "ONEDNN_MAX_CPU_ISA" not in worker_variables({}, "cpu", "native")


def test_a_token_in_the_environment_is_never_taken() -> None:
    values = fingerprint(1, variables={"API_TOKEN": "s3cret", "MLFLOW_TRACKING_PASSWORD": "s3cret"})
    assert "s3cret" not in json.dumps(values)


@pytest.mark.parametrize("arithmetic", environment.ARITHMETICS)
def test_runner_and_worker_see_the_same_environment(arithmetic: environment.Arithmetic) -> None:
    code = (
        f"import json; from fashion_cnn.environment import *; print(json.dumps(fingerprint(1, 'cpu', {arithmetic!r})))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code],
        env=worker_variables(os.environ, "cpu", arithmetic), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(seen.stdout) == fingerprint(1, arithmetic=arithmetic)


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentFault, match="use --device cpu"):
        fingerprint(1, "gpu")


def test_packages_are_pinned_lines() -> None:
    assert any(line.startswith("tensorflow==") for line in packages())
