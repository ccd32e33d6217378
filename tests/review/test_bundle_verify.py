"""Every change to a bundle is found and named, and a hostile one does no harm."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments import POST_RESULTS
from fashion_cnn.config import hash_of
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.evidence.tables import from_json, to_json
from fashion_cnn.review.archive import ArchiveError
from fashion_cnn.review.bundle import BundleError
from fashion_cnn.review.pack import make_bundle
from fashion_cnn.review.stated import Here
from fashion_cnn.review.verify import verify
from tests.support.bundles import (
    POST,
    SMALL,
    STUDY,
    Files,
    Tampering,
    files_of,
    first_run,
    in_json,
    in_runs,
    next_number,
    packed,
    records,
    said,
    save_table,
    sealed,
    table,
    zipped,
)
from tests.support.command import REPOSITORY
from tests.support.recorded import COMMIT, record


def in_epochs(column: str, change: Callable[[str], str]) -> Tampering:
    def tamper(files: Files) -> None:
        rows = table(files, "epochs.csv")
        rows[1][column] = change(rows[1][column])
        save_table(files, "epochs.csv", rows)

    return tamper


def in_artifact(name: str, change: Callable[[Any], None], *, hidden: int = 0) -> Tampering:
    """Change a JSON artifact of the first run; hide it from the run's hashes (1), and these from their tag (2)."""

    def tamper(files: Files) -> None:
        folder = f"records/{first_run(files)}"
        value = from_json(files[f"{folder}/{name}"])
        change(value)
        files[f"{folder}/{name}"] = (json.dumps(value, indent=1) + "\n").encode()
        if hidden:
            hashes = from_json(files[f"{folder}/hashes.json"])
            hashes[name] = hashlib.sha256(files[f"{folder}/{name}"]).hexdigest()
            files[f"{folder}/hashes.json"] = (json.dumps(hashes, indent=1) + "\n").encode()
        if hidden == 2:
            digest = hashlib.sha256(files[f"{folder}/hashes.json"]).hexdigest()
            in_runs("artifacts_sha256", lambda _: digest)(files)

    return tamper


def without_rows(files: Files) -> None:
    save_table(files, "runs.csv", table(files, "runs.csv")[1:])


def without_a_trace(files: Files) -> None:
    """Remove a run from everywhere."""
    run_id = first_run(files)
    for name in [name for name in files if run_id in name]:
        del files[name]
    for name in ("runs.csv", "epochs.csv"):
        save_table(files, name, [row for row in table(files, name) if row["run_id"] != run_id])
    crate = from_json(files["ro-crate-metadata.json"])
    crate["@graph"] = [one for one in crate["@graph"] if run_id not in one["@id"]]
    root = next(one for one in crate["@graph"] if one["@id"] == "./")
    for key in ("hasPart", "mentions"):
        root[key] = [one for one in root[key] if run_id not in one["@id"]]
    files["ro-crate-metadata.json"] = to_json(crate)


def without_folder(files: Files) -> None:
    for name in [name for name in files if name.startswith(f"records/{RUN}")]:
        del files[name]


def twice(files: Files) -> None:
    rows = table(files, "runs.csv")
    save_table(files, "runs.csv", [*rows, rows[0]])


def with_artifact(name: str, content: bytes) -> Tampering:
    def tamper(files: Files) -> None:
        files[f"records/{first_run(files)}/{name}"] = content

    return tamper


def without_artifact(name: str) -> Tampering:
    def tamper(files: Files) -> None:
        del files[f"records/{first_run(files)}/{name}"]

    return tamper


def claim(values: Any, place: int) -> Any:
    return values["made_up_study"]["claims"][place]


def sentence(values: Any, place: int) -> Any:
    return values["studies"][0]["sentences"][place]


def described(values: Any, identifier: str) -> Any:
    return next(one for one in values["@graph"] if one["@id"] == identifier or one["@type"] == identifier)


def another_loss(values: Any) -> None:
    values["epochs"][1]["loss"] = float(next_number(repr(values["epochs"][1]["loss"])))


def test_a_changed_an_added_and_a_removed_file_are_named(bundle: bytes) -> None:
    files = files_of(bundle)
    files["README.txt"] += b"Trust me.\n"
    files["notes.txt"] = b""
    del files["report.html"]
    outcome = verify(zipped(files))
    lines = said(outcome)
    assert "README.txt: changed: its SHA-256 is" in lines
    assert "notes.txt: added: manifest.json does not list it" in lines
    assert "report.html: removed: manifest.json lists it" in lines
    assert not outcome.holds


def test_a_bit_that_flipped_on_the_way_is_named(bundle: bytes) -> None:
    content = bytearray(bundle)
    content[content.index(b"a bundle of recorded runs")] ^= 1
    assert "README.txt: changed: it is damaged (Bad CRC-32" in said(verify(bytes(content)))


def test_another_hash_or_size_in_the_manifest_is_named(bundle: bytes) -> None:
    for key, value, told in (("sha256", "0" * 64, "manifest.json says 000"), ("bytes", 5, "manifest.json says 5")):
        files = files_of(bundle)
        values = from_json(files["manifest.json"])
        values["files"]["runs.csv"][key] = value
        files["manifest.json"] = to_json(values)
        assert f"runs.csv: changed: its SHA-256 is {hashlib.sha256(files['runs.csv']).hexdigest()}" in said(
            verify(zipped(files))
        ) or told in said(verify(zipped(files)))
        assert told in said(verify(zipped(files)))


def test_a_file_that_every_bundle_has_is_missed_even_if_the_manifest_does_not_list_it(bundle: bytes) -> None:
    files = files_of(bundle)
    del files["claims.json"]
    assert "claims.json: missing: every bundle has it" in said(verify(sealed(files)))


RUN = record(STUDY, "dense", 0).row["run_id"]


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        pytest.param(
            in_runs("test_accuracy", next_number), f"records/{RUN}: test_accuracy: ", id="a metric in runs.csv"
        ),
        pytest.param(in_runs("fit_cpu_seconds", next_number), f"records/{RUN}: fit_cpu_seconds: ", id="a sum"),
        pytest.param(in_runs("peak_memory_mib", next_number), f"records/{RUN}: peak_memory_mib: ", id="the memory"),
        pytest.param(in_runs("epochs_trained", lambda _: "4.0"), f"records/{RUN}: epochs_trained: ", id="the epochs"),
        pytest.param(
            in_epochs("loss", next_number), f"records/{RUN}: loss, epoch 2: ", id="a metric in epochs.csv"
        ),
        pytest.param(
            in_artifact("trajectory.json", another_loss), f"records/{RUN}: loss, epoch 2: ", id="in trajectory.json"
        ),
        pytest.param(
            in_artifact("trajectory.json", another_loss, hidden=2),
            f"records/{RUN}: loss, epoch 2: ",
            id="in trajectory.json and all hashes",
        ),
        pytest.param(
            in_artifact("per_class.json", lambda value: value["data"][0].__setitem__(2, 7)),
            f"records/{RUN}: per_class.json: ",
            id="an answer, without the run's hashes",
        ),
        pytest.param(
            in_artifact("per_class.json", lambda value: value["data"][0].__setitem__(2, 7), hidden=1),
            f"records/{RUN}: artifacts_sha256: ",
            id="an answer, without the hash of the hashes",
        ),
        pytest.param(
            in_artifact("per_class.json", lambda value: value["data"][0].__setitem__(2, 7), hidden=2),
            f"records/{RUN}: test_accuracy: ",
            id="an answer and all hashes",
        ),
        pytest.param(
            in_artifact("config.json", lambda value: value.update(batch_size=64), hidden=2),
            f"records/{RUN}: batch_size: ",
            id="the config",
        ),
        pytest.param(in_runs("batch_size", lambda _: "64"), f"records/{RUN}: config_sha256: ", id="a param"),
        pytest.param(
            in_artifact("environment.json", lambda value: value["fingerprint"].update(threads=2), hidden=2),
            f"records/{RUN}: environment_sha256: ",
            id="the environment",
        ),
        pytest.param(
            in_runs("environment_sha256", lambda _: hash_of({"threads": 2})),
            f"records/{RUN}: environment_sha256: ",
            id="the environment's hash",
        ),
        pytest.param(in_runs("weights_sha256", lambda _: "0" * 64), f"{RUN}: weights_sha256: ", id="the weights"),
        pytest.param(
            in_artifact("trajectory.json", lambda value: value["epochs"][-1].update(weights_sha256="0" * 64), hidden=2),
            f"records/{RUN}: weights_sha256: ",
            id="the weights in trajectory.json",
        ),
        pytest.param(in_runs("data_sha256", lambda _: "0" * 64), f"records/{RUN}: row.data_sha256: ", id="the data"),
        pytest.param(in_runs("code_sha256", lambda _: "0" * 64), f"records/{RUN}: code_sha256: ", id="the code"),
        pytest.param(in_runs("git_commit", lambda _: "1" * 40), f"records/{RUN}: git_commit: ", id="the commit"),
        pytest.param(in_runs("seed", lambda _: "77"), f"records/{RUN}: seed: ", id="the seed"),
        pytest.param(in_runs("arm", lambda _: "cnn"), f"runs.csv: run {RUN} of made_up_study", id="the arm"),
        pytest.param(in_runs("smoke", lambda _: "true"), f"records/{RUN}: row.smoke: ", id="a smoke run"),
        pytest.param(in_runs("status", lambda _: "FAILED"), f"records/{RUN}: row.status: ", id="the status"),
        pytest.param(in_runs("stop_reason", lambda _: "callback"), f"records/{RUN}: the stop: ", id="the stop"),
        pytest.param(in_runs("end_time", lambda time: str(int(time) + 1)), f"#{RUN}: endTime is ", id="the time"),
        pytest.param(in_runs("study", lambda _: "other"), "studies.json has no study 'other'", id="the study"),
        pytest.param(without_rows, f"records/{RUN}: runs.csv has no such run", id="a run less in runs.csv"),
        pytest.param(
            without_a_trace,
            "claims.json: studies[0].recorded is 24, but computed again it is 23",
            id="a run less everywhere",
        ),
        pytest.param(without_folder, f"runs.csv: run {RUN} has no artifacts", id="no artifacts"),
        pytest.param(twice, f"runs.csv: run_id '{RUN}' is there twice", id="a run twice"),
        pytest.param(
            lambda files: save_table(files, "epochs.csv", table(files, "epochs.csv")[1:]),
            f"records/{RUN}: epochs.loss: 2 of it",
            id="an epoch less",
        ),
        pytest.param(with_artifact("code.diff", b"+ x\n"), "code.diff: hashes.json does not list it", id="a diff more"),
        pytest.param(with_artifact("model.pkl", b""), "model.pkl: no artifact that a bundle holds", id="a file more"),
        pytest.param(
            without_artifact("model_summary.txt"), "model_summary.txt: hashes.json lists it", id="a summary less"
        ),
        pytest.param(
            without_artifact("trajectory.json"), f"{RUN}: artifacts.trajectory.json: missing", id="no trajectory"
        ),
        pytest.param(
            in_json("claims.json", lambda value: sentence(value, 0).update(verdict="contradicted")),
            "claims.json: studies[0].sentences[0].verdict is 'contradicted', but computed again it is 'supported'",
            id="a verdict",
        ),
        pytest.param(
            in_json("claims.json", lambda value: sentence(value, 0)["parts"][0].update(p_for=0.5)),
            "claims.json: studies[0].sentences[0].parts[0].p_for is 0.5",
            id="a p value",
        ),
        pytest.param(
            in_json("studies.json", lambda value: claim(value, 2).update(within=0.2)),
            "claims.json: studies[0].sentences[1].parts[0].within is 0.1, but computed again it is 0.2",
            id="a margin",
        ),
        pytest.param(
            in_json("studies.json", lambda value: value["made_up_study"]["claims"].pop(0)),
            "claims.json: studies[0].sentences[0].parts",
            id="a claim less",
        ),
        pytest.param(
            in_json("studies.json", lambda value: value["made_up_study"]["arms"]["cnn"].update(filters=16)),
            "of made_up_study is none that counts: another config than the arm has now",
            id="an arm's config",
        ),
        pytest.param(
            lambda files: files.update({"post_results.csv": POST.replace(b"0.85", b"0.95")}),
            "claims.json: post.test_results.values[0].printed is 0.85, but computed again it is 0.95",
            id="the post's number",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: value["@graph"].remove(described(value, "runs.csv"))),
            "ro-crate-metadata.json: runs.csv is not described",
            id="a file not described",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: value["@graph"].remove(described(value, f"#{RUN}"))),
            f"ro-crate-metadata.json: the run {RUN} is not described",
            id="a run not described",
        ),
        pytest.param(
            in_json(
                "ro-crate-metadata.json",
                lambda value: described(value, "SoftwareApplication").update(softwareVersion="1" * 40),
            ),
            f"#{RUN}: instrument's softwareVersion is '1111",
            id="the commit described",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: described(value, "Dataset").pop("license")),
            "ro-crate-metadata.json: ./ lacks license",
            id="no licence",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: described(value, f"#{RUN}").update(description="rm -r /")),
            f"ro-crate-metadata.json: #{RUN}: description is 'rm -r /', but computed again it is 'fashion-cnn run ",
            id="the command described",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: value["@graph"].append({"@id": "#me", "@type": "Person"})),
            "ro-crate-metadata.json: #me is described, but nothing in the bundle is so named",
            id="a person described",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: value["@graph"].append(value["@graph"][0])),
            "ro-crate-metadata.json: ./ is described twice",
            id="described twice",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: value.update({"@context": "https://example.org"})),
            "ro-crate-metadata.json: it must hold a @graph, the @context https://w3id.org/ro/crate/1.1/context",
            id="another context",
        ),
    ],
)  # fmt: skip
def test_what_was_changed_is_named_though_the_manifest_was_made_to_fit(
    bundle: bytes, tamper: Tampering, found: str
) -> None:
    files = files_of(bundle)
    tamper(files)
    outcome = verify(sealed(files))
    assert found in said(outcome)
    assert "changed: " not in said(outcome)  # the manifest fits
    assert str(outcome).startswith("it does not hold")


@pytest.mark.usefixtures("undrawn")
def test_only_the_expected_digest_catches_who_rewrites_everything() -> None:
    honest = records(SMALL, 1)
    better = [record(SMALL, "cnn", 0, lift=200)]
    assert better[0].row["test_accuracy"] > honest[0].row["test_accuracy"]
    published = hashlib.sha256(packed(Selection(SMALL, honest, []))).hexdigest()
    rewritten = packed(Selection(SMALL, better, []))
    assert verify(rewritten).holds
    outcome = verify(rewritten, expected=published)
    digest = hashlib.sha256(rewritten).hexdigest()
    assert said(outcome) == f"the bundle: its SHA-256 is {digest}, but {published} is expected"
    assert verify(rewritten, expected=digest).holds


def test_another_code_than_this_checkouts_is_noted(bundle: bytes) -> None:
    notes = "\n".join(verify(bundle, here=Here([STUDY], "0" * 64)).notes)
    assert f"not the ones of this checkout; the runs were made at {COMMIT}" in notes
    assert "no study of this checkout" not in notes


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.txt": b""}, "it is no bundle: it has no manifest.json"),
        ({"manifest.json": b"{}"}, "it is no bundle: its manifest.json is not one"),
        ({"manifest.json": b"[" * 100_000}, "it is no bundle: its manifest.json is not one"),
        ({"manifest.json": b'{"format": "fashion-cnn bundle 2", "files": {}}'}, "this version reads"),
    ],
)
def test_what_is_no_bundle_is_told_in_one_line(files: Files, said: str) -> None:
    with pytest.raises(BundleError, match=said) as error:
        verify(zipped(files))
    assert "\n" not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.fault("any-input", note="bundles")
def test_whatever_a_file_holds_the_answer_is_an_outcome(small: bytes, data: st.DataObject) -> None:
    files = files_of(small)
    name = data.draw(st.sampled_from(sorted(set(files) - {"manifest.json", "ro-crate-metadata.json"})))
    files[name] = data.draw(
        st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 50_000)
    )
    outcome = verify(sealed(files))
    json.dumps(outcome.as_dict())
    assert str(outcome).encode()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.fault("any-input", note="bundles")
def test_whatever_a_value_is_made_the_answer_is_an_outcome(small: bytes, data: st.DataObject) -> None:
    files = files_of(small)
    name = data.draw(st.sampled_from([name for name in sorted(files) if name.endswith(".json")]))
    value = from_json(files[name])
    inner, key = value, None
    for _ in range(data.draw(st.integers(1, 6))):
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys:
            break
        outer, key = inner, data.draw(st.sampled_from(keys))
        inner = outer[key]
        if not isinstance(inner, dict | list):
            break
    outer[key] = data.draw(JSON)
    files[name] = json.dumps(value).encode()
    try:
        outcome = verify(zipped(files) if name == "manifest.json" else sealed(files))
    except BundleError:
        assert name == "manifest.json"
    except (KeyError, TypeError, AttributeError, ValueError):
        assert name == "ro-crate-metadata.json"  # it could not be made to fit
    else:
        json.dumps(outcome.as_dict())
        assert str(outcome).encode()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.fault("any-input", note="bundles")
def test_a_bundle_with_changed_bytes_never_holds(small: bytes, data: st.DataObject) -> None:
    content = bytearray(small)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    expected = hashlib.sha256(small).hexdigest()
    try:
        outcome = verify(bytes(content), expected=expected)
    except (ArchiveError, BundleError):
        return
    assert outcome.holds == (bytes(content) == small)


def test_what_it_prints_holds_nothing_that_steers_a_terminal(small: bytes) -> None:
    files = files_of(small)
    for column in ("node", "git_commit", "code_sha256"):
        in_runs(column, lambda _: "\x1b[2J")(files)
    in_json("claims.json", lambda values: values.update({"\u2028\ud800\x1b": 1}))(files)
    outcome = verify(sealed(files), here=Here(code_sha256="0" * 64))
    assert "\x1b" in "".join(outcome.notes) and "\x1b" in said(outcome)
    assert str(outcome).encode()
    assert all(line.isprintable() for line in str(outcome).split("\n"))


ALONE = """
import importlib.abc, json, socket, sys, sysconfig, time

LIGHT = {"numpy", "pandas", "scipy", "dateutil", "six", "pytz", "tzdata", "fashion_cnn", "experiments"}
asked = set()

class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in LIGHT and top not in sys.stdlib_module_names and not top.startswith("_"):
            asked.add(top)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def refuse(*_, **__):
    raise OSError("no network here")

before = set(sys.modules)
sys.meta_path.insert(0, Guard())
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from experiments.__main__ import run

sys.argv = ["fashion-cnn", "verify", *sys.argv[1:]]
status = None
try:
    run()
except SystemExit as ended:
    status = ended.code
roots = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if name not in before}
third = {file[len(root) + 1 :].partition("/")[0] for file in files.values() for root in roots if file.startswith(root)}
print(json.dumps({"status": status, "third": sorted(third), "asked": sorted(asked), "cpu": time.process_time()}))
"""


def test_verifying_needs_numpy_pandas_and_scipy_no_network_no_store_and_writes_nothing(
    tmp_path: Path,
) -> None:
    lock = (REPOSITORY / "requirements.lock").read_bytes()
    bundle = make_bundle([Selection(STUDY, records(), [])], lock=lock, post=POST_RESULTS.read_bytes())
    (tmp_path / "bundle.zip").write_bytes(bundle)
    (tmp_path / "bundle.zip").chmod(stat.S_IRUSR)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.run(
        [sys.executable, "-B", "-c", ALONE, "bundle.zip", "--expect", hashlib.sha256(bundle).hexdigest()],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    *printed, last = process.stdout.splitlines()
    answer = json.loads(last)
    assert answer["status"] == 0
    assert printed[0] == "bundle.zip: it holds"
    assert ", as expected" in printed[1]
    assert set(answer["third"]) <= {"numpy", "pandas", "scipy", "dateutil", "six", "pytz", "tzdata"}
    assert {"tensorflow", "keras", "mlflow", "matplotlib", "rocrate"}.isdisjoint(answer["asked"])
    assert answer["cpu"] < 10  # seconds
    assert os.listdir(tmp_path) == ["bundle.zip"]
