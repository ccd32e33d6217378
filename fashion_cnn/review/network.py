"""Load a recorded run's network, once it is known to be the one that was recorded.

A model file can be a program. So its hash is checked before anything in it is looked at, it must be Keras' own zip
(`.h5`, pickle and MLflow's loaders are never used), and it may consist of this project's layers only, whatever the
process allows Keras to load.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from fashion_cnn.evidence.record import HASHES, MODEL, Record
from fashion_cnn.state import arrays_sha256
from fashion_cnn.store.tracking import Store

MEMBERS: Final = frozenset({"metadata.json", "config.json", "model.weights.h5"})
LARGEST: Final = 2**30  # bytes of a member when decompressed: several times the largest network's
CLASSES: Final = frozenset(
    {
        ("keras", "Sequential"),
        ("keras", "DTypePolicy"),
        ("keras.layers", "InputLayer"),
        ("keras.layers", "Conv2D"),
        ("keras.layers", "MaxPooling2D"),
        ("keras.layers", "Flatten"),
        ("keras.layers", "Dense"),
        ("keras.initializers", "GlorotUniform"),
        ("keras.initializers", "Zeros"),
        ("keras.optimizers", "Adam"),
    }
)


class LoadingError(ValueError):
    """A run's network cannot be loaded or trusted: one line that says why; nothing in its file was run."""


def load_network(store: Store, run_id: str) -> keras.Model:
    """The network of a recorded run as it was at its cut, with an optimizer at its start.

    Args:
        store: that holds the run.
        run_id: or its first digits, at least 6.

    Returns:
        A model from images (n, 28, 28, 1), float32 in 0..1, to class probabilities (n, 10), float32.

    Raises:
        LoadingError: the run has no model, or the model is not the one that was recorded.
        StoreError: no such run, or the store does not answer.
    """
    record = store.record(store.find(run_id), [])
    try:
        return _loaded(_recorded(record), str(record.row["weights_sha256"]))
    except LoadingError as error:
        replayed = f"fashion-cnn replay {record.row['run_id'][:8]} trains it again"
        raise LoadingError(f"the network of run {record.row['run_id']} was not loaded: {error}; {replayed}") from None


def _recorded(record: Record) -> bytes:
    """The native file of a run's model, after its hash was found to be the recorded one."""
    for name in (HASHES, MODEL):
        if name not in record.artifacts:
            raise LoadingError(f"it has no {name}")
    _compare(HASHES, record.artifacts[HASHES], record.row.get("artifacts_sha256"))
    listed = record.json(HASHES)
    _compare(MODEL, record.artifacts[MODEL], listed.get(MODEL) if isinstance(listed, dict) else None)
    return record.artifacts[MODEL]


def _compare(name: str, content: bytes, recorded: Any) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != recorded:
        raise LoadingError(f"{name} was changed after it was logged: its SHA-256 is {digest}, recorded is {recorded}")


def _loaded(content: bytes, weights_sha256: str) -> keras.Model:
    """The network of a native file, if it is one of ours and has the weights of this hash."""
    _check_parts(content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL)
        path.write_bytes(content)
        try:
            network = keras.saving.load_model(path, custom_objects=None, safe_mode=True)
        except Exception as error:  # Keras and h5py raise anything
            raise LoadingError(f"Keras cannot load it ({type(error).__name__})") from error
    weights = {
        f"{layer.name}/{variable.name}": np.array(variable) for layer in network.layers for variable in layer.variables
    }
    digest = arrays_sha256(weights)
    if digest != weights_sha256:
        raise LoadingError(f"its weights have the SHA-256 {digest}, recorded is {weights_sha256}")
    return network


def _check_parts(content: bytes) -> None:
    """Raises a LoadingError for what is not a zip of Keras' three members, or asks for other classes than ours."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = file.infolist()
            if {member.filename for member in members} != MEMBERS or len(members) != len(MEMBERS):
                raise LoadingError("it is no native .keras file: it must hold " + ", ".join(sorted(MEMBERS)))
            if any(member.file_size > LARGEST for member in members):
                raise LoadingError(f"a part of it has more than {LARGEST} bytes when decompressed")
            config = json.loads(file.read("config.json"))
    except LoadingError:
        raise
    except Exception as error:  # a damaged zip makes Python raise anything
        raise LoadingError("it is no native .keras file") from error
    for module, name in _classes(config):
        if (module, name) not in CLASSES:
            raise LoadingError(f"it asks for {str(module)[:40]}.{str(name)[:40]}, which no network of ours has")


def _classes(value: Any) -> Iterator[tuple[Any, Any]]:
    """The module and class of every object that a configuration asks for; a registered one counts by its name."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if {"class_name", "module", "registered_name"} & part.keys():
                yield part.get("registered_name") or part.get("module"), part.get("class_name")
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
