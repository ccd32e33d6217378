"""What MLflow shows of a run besides its values: the data set, the network, feature maps in the image grid."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from fashion_cnn.store.artifacts import GRID
from fashion_cnn.store.connection import Connection
from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.outputs import CutFiles

DATASET = "fashion-mnist"
NATIVE = "data/model.keras"  # in a logged model


def digest_of(data_sha256: str) -> str:
    """A data set's digest, as long as MLflow allows."""
    return data_sha256[:36]


def log_data_set(connection: Connection, run_id: str, data_sha256: str, images: Sequence[int] | None) -> None:
    """Log what a run trained on; `images` are those of a smoke run, for training and testing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {"uri": "https://github.com/zalandoresearch/fashion-mnist"}
    profile = {"sha256": data_sha256, **({"first_images": list(images)} if images else {})}
    data = Dataset(
        name=DATASET,
        digest=digest_of(data_sha256),
        source_type="http",
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
    tag = InputTag("mlflow.data.context", "training")
    connection.client.log_inputs(run_id, datasets=[DatasetInput(dataset=data, tags=[tag])])


def send_images(
    connection: Connection, run_id: str, record: str, epoch: int, timestamp: int, paths: Sequence[Path]
) -> None:
    """Send the feature maps of one epoch: the files that `log_image` would write.

    It gives them a random name, so that an image sent twice would be shown twice; these have the same name again.

    Args:
        connection: to the store.
        run_id: MLflow's.
        record: the run's, which decides the names.
        epoch: that they were drawn after.
        timestamp: ms since 1970.
        paths: a PNG per layer, named for it.
    """
    from mlflow.tracking.multimedia import compress_image_size
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            name = uuid.uuid5(uuid.NAMESPACE_OID, f"{record} {path.stem} {epoch}")
            file = Path(folder, f"feature_maps~{path.stem}+step+{epoch}+timestamp+{timestamp}+{name}")
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
            name=config.model,
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

    (folder / "data").mkdir()
    (folder / NATIVE).write_bytes(native.read_bytes())
    (folder / "data" / "keras_module.txt").write_text("keras", encoding="utf-8")
    float32 = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, 28, 28, 1))]), outputs=Schema([TensorSpec(float32, (-1, 10))])
    )
    model = Model(run_id=run_id, model_uuid=model_id, model_id=model_id, signature=signature)
    model.add_flavor(
        "keras",
        data="data",
        keras_version=version("keras"),
        keras_backend="tensorflow",
        save_exported_model=False,
    )
    pyfunc.add_to_model(model, loader_module="mlflow.keras", python_env="python_env.yaml")
    model.save(str(folder / "MLmodel"))
    needed = [f"{name}=={version(name)}" for name in ("mlflow", "keras", "tensorflow", "numpy")]
    (folder / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
    python = f"python: {platform.python_version()}\nbuild_dependencies: []\ndependencies:\n- -r requirements.txt\n"
    (folder / "python_env.yaml").write_text(python, encoding="utf-8")
