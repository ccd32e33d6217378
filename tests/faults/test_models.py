"""A run's network is loaded only as the native file that was logged, and nothing in a changed one is run."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from fashion_cnn.data import load
from fashion_cnn.review.network import LoadingError, load_network
from fashion_cnn.store.address import StoreError
from tests.project.test_setup import PYPROJECT, locked_versions
from tests.support.command import Lab
from tests.support.made_up import write_made_up

pytestmark = pytest.mark.fault("model")

Change = Callable[[dict[str, bytes]], dict[str, bytes]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with one real run."""
    lab = Lab(tmp_path_factory.mktemp("lab"), write_made_up(tmp_path_factory.mktemp("data"), train=64, test=64))
    lab.call("train", "--filters", 4, "--dense-units", 8, "--epochs", 1)
    return lab


@pytest.fixture(scope="module")
def row(lab: Lab) -> dict[str, Any]:
    row: dict[str, Any]
    (row,) = lab.runs().to_dict("records")
    return row


@pytest.fixture
def native(lab: Lab) -> Iterator[Path]:
    """The logged model's native file; whatever a test makes of its folder and its hashes is undone."""
    (path,) = (lab.folder / "artifacts").rglob("model.keras")
    (hashes,) = (lab.folder / "artifacts").rglob("hashes.json")
    kept = {one: one.read_bytes() for one in (path, path.parent.parent / "MLmodel", hashes)}
    yield path
    for one in path.parent.iterdir():
        if one.name not in ("model.keras", "keras_module.txt"):
            one.unlink()
    for one, content in kept.items():
        one.write_bytes(content)
    record(lab, lab.runs().iloc[0]["run_id"], hashes)


def record(lab: Lab, run_id: str, hashes: Path) -> None:
    """Have the run's tag say that these are its hashes."""
    lab.store().client.set_tag(run_id, "artifacts_sha256", hashlib.sha256(hashes.read_bytes()).hexdigest())


def replace_with_all_hashes(lab: Lab, row: dict[str, Any], native: Path, content: bytes) -> None:
    """What somebody could do who can write to the whole store: the file, its hash, and the hash of the hashes."""
    native.write_bytes(content)
    (hashes,) = (lab.folder / "artifacts").rglob("hashes.json")
    listed = {**json.loads(hashes.read_bytes()), "model.keras": hashlib.sha256(content).hexdigest()}
    hashes.write_text(json.dumps(listed))
    record(lab, row["run_id"], hashes)


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return packed.getvalue()


def members(native: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(native) as file:
        return {name: file.read(name) for name in file.namelist()}


def with_layer(native: Path, **layer: Any) -> bytes:
    """The native file with another layer before its last one."""
    parts = members(native)
    config = json.loads(parts["config.json"])
    config["config"]["layers"].insert(-1, {"registered_name": None, "config": {"name": "extra"}, **layer})
    return zipped({**parts, "config.json": json.dumps(config).encode()})


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def refused(lab: Lab, row: dict[str, Any]) -> str:
    with pytest.raises(LoadingError) as caught:
        load_network(lab.store(), row["run_id"])
    message = str(caught.value)
    assert message.startswith(f"the network of run {row['run_id']} was not loaded: ") and "\n" not in message
    assert message.endswith(f"; fashion-cnn replay {row['run_id'][:8]} trains it again")
    return message


def test_the_network_answers_as_recorded(lab: Lab, row: dict[str, Any], native: Path, engine: None) -> None:
    network = load_network(lab.store(), row["run_id"][:8])
    data = load(lab.data)
    answers = np.asarray(network(data.test_images[..., None] / np.float32(255))).argmax(axis=1)
    assert (answers == data.test_labels).mean() == pytest.approx(row["test_accuracy"])


def test_a_run_that_there_is_not_is_told(lab: Lab) -> None:
    with pytest.raises(StoreError, match="has no recorded run"):
        load_network(lab.store(), "f" * 32)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_model_that_was_changed_after_logging_is_not_loaded(
    lab: Lab, row: dict[str, Any], native: Path, damage: str
) -> None:
    content = bytearray(native.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 if damage == "truncated" else 0 :]
    native.write_bytes(content)
    assert "model.keras was changed after it was logged: its SHA-256 is " in refused(lab, row)


def test_a_model_that_is_gone_is_told(lab: Lab, row: dict[str, Any], native: Path) -> None:
    native.rename(native.with_name("model.h5"))
    assert "it has no model.keras" in refused(lab, row)


def test_a_changed_list_of_hashes_is_refused(lab: Lab, row: dict[str, Any], native: Path) -> None:
    (hashes,) = (lab.folder / "artifacts").rglob("hashes.json")
    listed = json.loads(hashes.read_bytes())
    native.write_bytes(b"another")
    hashes.write_text(json.dumps({**listed, "model.keras": hashlib.sha256(b"another").hexdigest()}))
    assert "hashes.json was changed after it was logged" in refused(lab, row)


def test_an_h5_in_its_place_is_refused_though_every_hash_fits(lab: Lab, row: dict[str, Any], native: Path) -> None:
    replace_with_all_hashes(lab, row, native, members(native)["model.weights.h5"])
    assert "it is no native .keras file" in refused(lab, row)


def test_a_pickle_in_its_place_is_refused_and_not_opened(
    lab: Lab, row: dict[str, Any], native: Path, tmp_path: Path
) -> None:
    content = pickle.dumps(Trap(tmp_path / "mark"))
    replace_with_all_hashes(lab, row, native, content)
    assert "it is no native .keras file" in refused(lab, row)
    assert not (tmp_path / "mark").exists()
    pickle.loads(content)
    assert (tmp_path / "mark").exists()  # the trap works


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda parts: {**parts, "data.pkl": b"\x80"}, "it must hold config.json, metadata.json, model.weights.h5"),
        (lambda parts: {**parts, "../../outside": b""}, "it must hold config.json, metadata.json, model.weights.h5"),
        (lambda parts: {**parts, "config.json": b"["}, "it is no native .keras file"),
        (lambda parts: {**parts, "config.json": b"[" * 10**6}, "it is no native .keras file"),
        (lambda parts: {**parts, "config.json": b"7"}, "Keras cannot load it"),
        (lambda parts: {**parts, "model.weights.h5": b"no"}, "Keras cannot load it"),
    ],
    ids=["more in it", "a path out", "half a config", "a deep config", "no config", "no weights"],
)
def test_a_zip_that_is_no_native_model_is_refused_though_every_hash_fits(
    lab: Lab, row: dict[str, Any], native: Path, change: Change, fault: str
) -> None:
    replace_with_all_hashes(lab, row, native, zipped(change(members(native))))
    assert fault in refused(lab, row)


def test_a_part_that_would_fill_the_memory_is_not_unpacked(lab: Lab, row: dict[str, Any], native: Path) -> None:
    content = bytearray(zipped(members(native)))
    at = content.rindex(b"PK\x01\x02")  # the last member's entry, which tells its size
    content[at + 24 : at + 28] = (2**31).to_bytes(4, "little")
    replace_with_all_hashes(lab, row, native, bytes(content))
    assert "has more than 1073741824 bytes" in refused(lab, row)


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [
        ("keras.layers", "Lambda", None),
        ("keras.layers", "TFSMLayer", None),
        ("os", "system", None),
        ("keras.layers", "Dense", "mine>Dense"),
        (None, None, "mine>Dense"),
    ],
)
def test_what_no_network_of_ours_has_is_refused_even_where_keras_would_load_all(
    lab: Lab, row: dict[str, Any], native: Path, module: str, name: str, registered: str | None
) -> None:
    from keras.src.saving.serialization_lib import SafeModeScope

    content = with_layer(native, module=module, class_name=name, registered_name=registered)
    replace_with_all_hashes(lab, row, native, content)
    with SafeModeScope(False):  # as keras.config.enable_unsafe_deserialization() makes it, for good
        assert f"it asks for {registered or module}.{name}, which no network of ours has" in refused(lab, row)


def test_other_weights_are_refused_though_every_hash_of_files_fits(
    lab: Lab, row: dict[str, Any], native: Path, tmp_path: Path, engine: None
) -> None:
    network = load_network(lab.store(), row["run_id"])
    network.layers[-1].set_weights([values + 1 for values in network.layers[-1].get_weights()])
    network.save(tmp_path / "other.keras")
    replace_with_all_hashes(lab, row, native, (tmp_path / "other.keras").read_bytes())
    assert f"recorded is {row['weights_sha256']}" in refused(lab, row)


def test_another_loader_in_the_models_description_is_never_asked(
    lab: Lab, row: dict[str, Any], native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: None
) -> None:
    import mlflow.pyfunc

    (tmp_path / "strange_loader.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('mark').touch()\ndef _load_pyfunc(path): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    description = native.parent.parent / "MLmodel"
    changed = description.read_text().replace("loader_module: mlflow.keras", "loader_module: strange_loader")
    description.write_text(changed)
    load_network(lab.store(), row["run_id"])
    assert not (tmp_path / "mark").exists()
    with pytest.raises(Exception):  # noqa: B017 - whatever it says of an empty model: the loader was asked
        mlflow.pyfunc.load_model(str(description.parent))
    assert (tmp_path / "mark").exists()  # the trap works


FLOORS = {  # by package: a version, and the holes that it was the first to be free of
    "keras": {
        "3.9.0": "CVE-2025-1550: a .keras file runs code in safe mode",
        "3.11.0": "CVE-2025-8747, CVE-2025-9906: the same again, by what Keras itself can call",
        "3.11.3": "CVE-2025-9905: safe mode ignored for .h5; CVE-2025-49655: pickle inside of a .keras file",
        "3.12.0": "CVE-2025-12638: get_file unpacks outside of its folder",
        "3.13.1": "CVE-2026-0897: a small weights file fills the memory",
        "3.13.2": "CVE-2026-1669: weights read from any file; CVE-2026-1462: a layer loads code in safe mode",
    },
    "mlflow": {
        "2.2.2": "CVE-2023-1177: artifacts read from any path of the server",
        "3.0.0": "CVE-2025-11201: a model's path out of its folder, up to running code",
        "3.5.0": "CVE-2025-14279: any Host header, so that a web page reaches a server on this machine",
        "3.10.0": "CVE-2026-2614: a model version reads any file of the server",
        "3.11.0": "CVE-2026-4137: models changed in a folder that all may write to, then unpickled",
    },
}


@pytest.mark.parametrize(
    ("package", "floor", "holes"), [(p, v, h) for p, all in FLOORS.items() for v, h in all.items()]
)
@pytest.mark.fault("known-hole")
def test_what_is_locked_and_what_is_allowed_is_free_of_a_known_hole(package: str, floor: str, holes: str) -> None:
    assert locked_versions(package) and min(locked_versions(package)) >= Version(floor), holes
    (allowed,) = (one for text in PYPROJECT["project"]["dependencies"] if (one := Requirement(text)).name == package)
    lowest = [Version(part.version) for part in allowed.specifier if part.operator == ">="]
    assert lowest and lowest[0] >= Version(floor), holes
