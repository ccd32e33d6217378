"""What runs on a node: the tasks that tell its environment, and that pass on what a worker there says."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fashion_cnn.data import FASHION_MNIST, MADE_UP_LABEL, DataError, load
from fashion_cnn.download import find
from fashion_cnn.environment import Arithmetic, Choice, EnvironmentFault, fingerprint
from fashion_cnn.events import Event, Job, Started
from fashion_cnn.known_answers import settled
from fashion_cnn.running.executor import POLL, Ended, LocalExecutor


def node_environment(variables: Mapping[str, str], asked: Arithmetic | None) -> dict[str, Any]:
    """What this node computes with.

    Args:
        variables: that the user set for all workers.
        asked: the arithmetic that the user asked for.

    Returns:
        `one`, the fingerprint of a worker of one thread; `many`, that of more threads, whose number is to be filled
        in; and `note`, why the first is not portable.
    """
    os.environ.update(variables)
    try:
        choice = settled(asked)
    except EnvironmentFault as error:
        choice = Choice("native", str(error))
    return {
        "one": fingerprint(1, arithmetic=choice.arithmetic),
        "many": fingerprint(2, arithmetic="native"),
        "note": choice.reason,
    }


def relay(
    job: Job, file_sha256: Mapping[str, str], files: Sequence[Any], variables: Mapping[str, str]
) -> Iterator[Event | Ended]:
    """Do a job in a fresh process on this node, and pass on what it says.

    Args:
        job: its `data_dir` is the driver's.
        file_sha256: of the data set's decompressed files.
        files: the data set in Ray's object store, for a node that does not have it.
        variables: that the user set for all workers.
    """
    import ray

    os.environ.update(variables)
    node = f"{platform.node()}/{ray.get_runtime_context().get_node_id()[:8]}"
    executor = LocalExecutor(job.device, forks=False)
    # Started elsewhere, the process cannot take a folder of this node's for our code.
    with tempfile.TemporaryDirectory(prefix="fashion-cnn-") as aside, chdir(aside):
        data_dir = _data_dir(job.data_dir, file_sha256, files, Path(aside))
        executor.start(replace(job, data_dir=str(data_dir)), Path(aside, "worker.log"))
        try:
            event: Event | Ended | None = None
            while not isinstance(event, Ended):
                for _, event in executor.events(POLL):
                    yield replace(event, node=node) if isinstance(event, Started) else event
        finally:
            executor.stop()


def data_files(folder: Path) -> dict[str, bytes]:
    """The data set's files by name, as they are."""
    names = (*(f"{name}.gz" for name in FASHION_MNIST.file_sha256), MADE_UP_LABEL)
    return {name: path.read_bytes() for name in names if (path := folder / name).exists()}


def _data_dir(given: str, file_sha256: Mapping[str, str], files: Sequence[Any], aside: Path) -> Path:
    """The folder of the data set on this node: one that it has, else a copy from Ray's object store.

    A folder of its own must hold the driver's data set to the last bit; the worker checks the copy when it loads it.
    """
    folders = [Path(given)]
    with suppress(DataError):
        folders += [folder] if (folder := find()) else []
    for folder in folders:
        with suppress(DataError):
            if load(folder).file_sha256 == file_sha256:
                return folder
    import ray

    for name, content in ray.get(files[0]).items():
        (aside / name).write_bytes(content)
    return aside
