"""What MLflow keeps of a run besides its values: artifacts, the data set, the model."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fashion_cnn.environment import version
from fashion_cnn.store import grid
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.connection import ABSENT, Connection
from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.trajectories import CutFiles

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DATASET = "fashion-mnist"
WRITERS = 8  # files that a server is sent at a time
NATIVE = "data/model.keras"  # in a logged model
LOGGED_MODEL = "model"  # its name, by which `runs:/ID/model` finds it


def digest_of(data_sha256: str) -> str:
    """A data set's digest, as long as MLflow allows."""
    return data_sha256[:36]


def location(connection: Connection, run_id: str) -> str:
    """Where a run's artifacts go, which is asked for once."""
    known = connection.locations
    if run_id not in known:
        known[run_id] = str(connection.client.get_run(run_id).info.artifact_uri)
    return known[run_id]


def upload(connection: Connection, uri: str, files: Mapping[str, bytes]) -> None:
    """Send files, by path, to a run's or a model's location; one that is there already is replaced.

    Where that is a folder of this machine they are written straight to it, for MLflow's client would take longer for
    them than for all else of a run. A tracking server gets several side by side.
    """
    if (here := local_folder(uri)) is not None:
        _write(here, files)
        return
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    repository = get_artifact_repository(uri, tracking_uri=connection.address.uri)
    with tempfile.TemporaryDirectory() as kept:
        _write(Path(kept), files)
        if isinstance(repository, HttpArtifactRepository):
            _put(repository, Path(kept), list(files))
        else:
            repository.log_artifacts(kept)  # type: ignore[no-untyped-call]  # others send side by side themselves


def _put(repository: Any, folder: Path, names: Sequence[str]) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        sent = [
            pool.submit(repository.log_artifact, str(folder / name), name.rpartition("/")[0] or None) for name in names
        ]
        try:
            for each in sent:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a server that does not answer is not asked for each of them
            raise


def local_folder(uri: str) -> Path | None:
    """The folder of this machine that artifacts lie in, if it is one."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def read_artifacts(
    connection: Connection, uri: str, names: Sequence[str] | None, folder: str
) -> Iterator[tuple[str, bytes]]:
    """The named artifacts at a run's or a model's address that are there; for None all but the image grid's.

    Remote ones are downloaded to the folder. Raises a StoreError where an artifact's path leads elsewhere.
    """
    if names is not None and (here := local_folder(uri)) is not None:  # without MLflow, which takes seconds to import
        yield from ((name, (here / name).read_bytes()) for name in names if (here / name).is_file())
        return
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(uri, tracking_uri=connection.address.uri)
    for name in listed(repository) if names is None else among(repository.list_artifacts, names):
        try:
            yield name, _content(repository, name, folder)
        except (OSError, MlflowException) as error:
            # A server that does not answer must not look like a record that lacks something.
            if not isinstance(error, FileNotFoundError) and getattr(error, "error_code", "") not in ABSENT:
                raise


def _content(repository: Any, name: str, folder: str) -> bytes:
    """An artifact that is there. A server is asked once: MLflow's client would ask first whether it is a folder."""
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.request_utils import augmented_raise_for_status
    from mlflow.utils.rest_utils import http_request

    if isinstance(repository, HttpArtifactRepository):
        credentials = get_default_host_creds(repository.artifact_uri)  # type: ignore[no-untyped-call]
        answer = http_request(credentials, f"/{name}", "GET")  # type: ignore[no-untyped-call]
        augmented_raise_for_status(answer)  # type: ignore[no-untyped-call]
        return bytes(answer.content)
    target = None if isinstance(repository, LocalArtifactRepository) else folder
    return Path(str(repository.download_artifacts(name, target))).read_bytes()


def among(listing: Callable[[str | None], Any], names: Sequence[str]) -> list[str]:
    """Those artifacts that a listing by folder has: a server reports a missing one the same way as its own failure."""
    folders = {name.rpartition("/")[0] or None for name in names}
    there = {item.path for folder in folders for item in listing(folder)}
    return [name for name in names if name in there]


def listed(repository: Any, folder: str | None = None) -> Iterator[str]:
    """The paths of all artifacts but the image grid's; a StoreError where one leads out, for a server can send any."""
    for item in repository.list_artifacts(folder):
        inside = PurePosixPath(item.path).parts[:-1] == PurePosixPath(folder or "").parts
        if not inside or ".." in item.path.split("/") or not item.path.isprintable() or "\\" in item.path:
            raise StoreError(f"the store lists an artifact by the path {item.path[:80]!r}, which is none of its folder")
        if item.is_dir and item.path != grid.FOLDER:
            yield from listed(repository, item.path)
        elif not item.is_dir:
            yield item.path


def _write(folder: Path, artifacts: Mapping[str, bytes]) -> None:
    for name, content in artifacts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(content)
        except OSError as error:  # a full disk's does not say of which file
            error.filename = error.filename or str(path)
            raise


def log_data_set(connection: Connection, run_id: str, data_sha256: str, images: Sequence[int] | None) -> None:
    """Log what a run trained on; `images` are those of a smoke run, for training and testing."""
    connection.client.log_inputs(run_id, datasets=[data_set_input(data_sha256, images)])


def data_set_input(data_sha256: str, images: Sequence[int] | None) -> DatasetInput:
    """What `log_data_set` logs."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {"uri": "https://github.com/zalandoresearch/fashion-mnist"}
    profile = {"sha256": data_sha256, **({"first_images": list(images)} if images else {})}
    data = Dataset(DATASET, digest_of(data_sha256), "http", json.dumps(source), profile=json.dumps(profile))
    return DatasetInput(dataset=data, tags=[InputTag("mlflow.data.context", "training")])


def maps_in_grid(connection: Connection, uri: str) -> dict[str, tuple[str, int]]:
    """The feature maps in the image grid of a run whose artifacts lie at `uri`: by path the layer and the epoch."""
    if (here := local_folder(uri)) is not None:
        paths = sorted(f"{grid.FOLDER}/{path.name}" for path in (here / grid.FOLDER).glob("*"))
    else:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with connection.errors():
            repository = get_artifact_repository(uri, tracking_uri=connection.address.uri)
            paths = [item.path for item in repository.list_artifacts(grid.FOLDER)]
    return {path: shown for path in paths if (shown := grid.thumbnail_of(PurePosixPath(path).name))}


def map_thumbnails(connection: Connection, uri: str) -> dict[int, dict[str, bytes]]:
    """As `maps_in_grid`, the pictures themselves: by epoch and layer a small WebP."""
    wanted = maps_in_grid(connection, uri)
    found: dict[int, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as kept:
        for path, content in read_artifacts(connection, uri, list(wanted), kept):
            layer, epoch = wanted[path]
            found.setdefault(epoch, {})[layer] = content
    return dict(sorted(found.items()))


def log_model(connection: Connection, run_id: str, run: RunEntry, cut: CutFiles) -> str:
    """Log a run's network as an MLflow model that holds the native `.keras` file; returns its id."""
    from mlflow.entities import LoggedModelOutput

    client, experiment = connection.client, connection.experiment(run.study, run.question)
    outputs = None
    if logged := client.search_logged_models([experiment], f"source_run_id = '{run_id}'", max_results=1):
        model, outputs = logged[0], client.get_run(run_id).outputs  # by an earlier send that was cut off
    else:
        config = run.run_config()
        model = client.create_logged_model(
            experiment,
            name=LOGGED_MODEL,
            source_run_id=run_id,
            params={**config.params(), "seed": str(run.seed)},
            tags={"study": run.study, "arm": run.arm, "weights_sha256": cut.weights_sha256},
            model_type="keras",
        )
    model_id = str(model.model_id)
    upload(connection, model.artifact_location, _model_files(run_id, model_id, cut.files["model.keras"]))
    if outputs is None or model_id not in {output.model_id for output in outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, cut.epoch)])
    client.finalize_logged_model(model_id, "READY")
    return model_id


def _model_files(run_id: str, model_id: str, native: Path) -> dict[str, bytes]:
    """The files that `mlflow.keras.save_model` would write, by path."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    needed = [f"{name}=={version(name)}" for name in ("mlflow", "keras", "tensorflow", "numpy")]
    python = f"python: {platform.python_version()}\nbuild_dependencies: []\ndependencies:\n- -r requirements.txt\n"
    images, scores = (TensorSpec(np.dtype(np.float32), shape) for shape in ((-1, 28, 28, 1), (-1, 10)))
    signature = ModelSignature(inputs=Schema([images]), outputs=Schema([scores]))
    model = Model(run_id=run_id, model_uuid=model_id, model_id=model_id, signature=signature)
    keras = {"keras_version": version("keras"), "keras_backend": "tensorflow", "save_exported_model": False}
    model.add_flavor("keras", data="data", **keras)
    pyfunc.add_to_model(model, loader_module="mlflow.keras", python_env="python_env.yaml")
    return {
        NATIVE: native.read_bytes(),
        "data/keras_module.txt": b"keras",
        "requirements.txt": ("\n".join(needed) + "\n").encode(),
        "python_env.yaml": python.encode(),
        "MLmodel": model.to_yaml().encode(),
    }
