"""What MLflow keeps of a run besides its values: artifacts, the data set, the image grid, the model."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fashion_cnn.environment import version
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.connection import ABSENT, Connection
from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.trajectories import CutFiles

DATASET = "fashion-mnist"
GRID = "images/"  # where MLflow keeps what its image grid shows
NATIVE = "data/model.keras"  # in a logged model
LOGGED_MODEL = "model"  # its name, by which `runs:/ID/model` finds it


def digest_of(data_sha256: str) -> str:
    """A data set's digest, as long as MLflow allows."""
    return data_sha256[:36]


def send_artifacts(connection: Connection, run_id: str, artifacts: Mapping[str, bytes]) -> None:
    """Send artifacts of a run, by path; one that is there already is replaced."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), artifacts)
        connection.client.log_artifacts(run_id, folder)


def put_artifacts(connection: Connection, run_id: str, uri: str, artifacts: Mapping[str, bytes]) -> None:
    """As `send_artifacts`, of a new run whose artifacts go to `uri`.

    Where that is a folder of this machine they are written straight to it: MLflow's client would take longer for them
    than for all else of a run that is imported.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        _write(Path(url2pathname(parts.path)), artifacts)
    else:
        send_artifacts(connection, run_id, artifacts)


def read_artifacts(
    connection: Connection, uri: str, names: Sequence[str] | None, folder: str
) -> Iterator[tuple[str, bytes]]:
    """The named artifacts at a run's or a model's address that are there; for None all but the image grid's.

    Remote ones are downloaded to the folder. Raises a StoreError where an artifact's path leads elsewhere.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    repository = get_artifact_repository(uri, tracking_uri=connection.address.uri)
    target = None if isinstance(repository, LocalArtifactRepository) else folder
    for name in listed(repository) if names is None else among(repository.list_artifacts, names):
        try:
            path = Path(str(repository.download_artifacts(name, target)))  # type: ignore[no-untyped-call]
            yield name, path.read_bytes()
        except (OSError, MlflowException) as error:
            # A server that does not answer must not look like a record that lacks something.
            if not isinstance(error, FileNotFoundError) and getattr(error, "error_code", "") not in ABSENT:
                raise


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
        if item.is_dir and f"{item.path}/" != GRID:
            yield from listed(repository, item.path)
        elif not item.is_dir:
            yield item.path


def _write(folder: Path, artifacts: Mapping[str, bytes]) -> None:
    for name, content in artifacts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def log_data_set(connection: Connection, run_id: str, data_sha256: str, images: Sequence[int] | None) -> None:
    """Log what a run trained on; `images` are those of a smoke run, for training and testing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {"uri": "https://github.com/zalandoresearch/fashion-mnist"}
    profile = {"sha256": data_sha256, **({"first_images": list(images)} if images else {})}
    data = Dataset(DATASET, digest_of(data_sha256), "http", json.dumps(source), profile=json.dumps(profile))
    tag = InputTag("mlflow.data.context", "training")
    connection.client.log_inputs(run_id, datasets=[DatasetInput(dataset=data, tags=[tag])])


def send_images(connection: Connection, run_id: str, run: RunEntry, epoch: int, at: int, paths: Sequence[Path]) -> None:
    """Send an epoch's feature maps, a PNG per layer drawn `at` a time in ms: the files that `log_image` would write.

    It gives them a random name, so that an image sent twice would be shown twice; these have the same name again.
    """
    from mlflow.tracking.multimedia import compress_image_size
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            name = uuid.uuid5(uuid.NAMESPACE_OID, f"{run.record} {path.stem} {epoch}")
            file = Path(folder, f"feature_maps~{path.stem}+step+{epoch}+timestamp+{at}+{name}")
            shutil.copyfile(path, f"{file}.png")
            with Image.open(path) as image:
                compress_image_size(image).save(f"{file}+compressed.webp")
        connection.client.log_artifacts(run_id, folder, GRID.rstrip("/"))
    connection.log(run_id, tags={"mlflow.loggedImages": "True"})


def log_model(connection: Connection, run_id: str, run: RunEntry, cut: CutFiles) -> str:
    """Log a run's network as an MLflow model that holds the native `.keras` file; returns its id."""
    from mlflow.entities import LoggedModelOutput

    client, experiment = connection.client, connection.experiment(run.study, run.question)
    logged = client.search_logged_models([experiment], f"source_run_id = '{run_id}'", max_results=1)
    if logged:
        model_id = logged[0].model_id
    else:
        config = run.run_config()
        model_id = client.create_logged_model(
            experiment,
            name=LOGGED_MODEL,
            source_run_id=run_id,
            params={**config.params(), "seed": str(run.seed)},
            tags={"study": run.study, "arm": run.arm, "weights_sha256": cut.weights_sha256},
            model_type="keras",
        ).model_id
    with tempfile.TemporaryDirectory() as folder:
        _write_model(Path(folder), run_id, model_id, cut.files["model.keras"])
        client.log_model_artifacts(model_id, folder)
    outputs = client.get_run(run_id).outputs
    if outputs is None or model_id not in {output.model_id for output in outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, cut.epoch)])
    client.finalize_logged_model(model_id, "READY")
    return str(model_id)


def _write_model(folder: Path, run_id: str, model_id: str, native: Path) -> None:
    """The folder that `mlflow.keras.save_model` would write."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    needed = [f"{name}=={version(name)}" for name in ("mlflow", "keras", "tensorflow", "numpy")]
    python = f"python: {platform.python_version()}\nbuild_dependencies: []\ndependencies:\n- -r requirements.txt\n"
    files = {
        NATIVE: native.read_bytes(),
        "data/keras_module.txt": b"keras",
        "requirements.txt": ("\n".join(needed) + "\n").encode(),
        "python_env.yaml": python.encode(),
    }
    _write(folder, files)
    images, scores = (TensorSpec(np.dtype(np.float32), shape) for shape in ((-1, 28, 28, 1), (-1, 10)))
    signature = ModelSignature(inputs=Schema([images]), outputs=Schema([scores]))
    model = Model(run_id=run_id, model_uuid=model_id, model_id=model_id, signature=signature)
    keras = {"keras_version": version("keras"), "keras_backend": "tensorflow", "save_exported_model": False}
    model.add_flavor("keras", data="data", **keras)
    pyfunc.add_to_model(model, loader_module="mlflow.keras", python_env="python_env.yaml")
    model.save(str(folder / "MLmodel"))
