"""What several test files share. TensorFlow is imported only where it is asked for, so that light tests stay fast."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

from fashion_cnn.data import Dataset, load
from fashion_cnn.environment import KERNELS
from fashion_cnn.start import collect_rarely
from fashion_cnn.state import arrays_sha256
from fashion_cnn.store import schema
from tests.support.empty import copy_empty
from tests.support.made_up import write_made_up

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = (  # what keeps it from asking the network for anything of its own
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
)
ROOT = Path(__file__).resolve().parent.parent

for _number in (signal.SIGINT, signal.SIGHUP):  # of a shell's background jobs, and under nohup, they are ignored
    if signal.getsignal(_number) == signal.SIG_IGN:  # and so they would be by all that the tests start and signal
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
collect_rarely()  # as the commands do
os.environ.update(KERNELS["portable"])  # what a worker has, before anything imports TensorFlow
os.environ.setdefault("FAULT_SEED", str(random.randrange(10**6)))  # here, for all processes of a test run to have one


# How long an input takes is no property of it: a busy machine stands still at times.
settings.register_profile("ours", database=None, deadline=None)
settings.load_profile("ours")

# A word in the names of the files that take longest, longest first: begun first, they leave short ones to the end.
LONGEST = (
    "cluster",
    "add",
    "processes",
    "ui",
    "replay",
    "runs",
    "reuse",
    "known",
    "servers",
    "results",
    "benchmark",
    "notebooks",
    "builder",
    "training",
    "python",
    "bundle",
    "template",
    "ray",
    "report",
    "stores",
    "published",
    "steps",
    "store",
    "secrets",
    "cli",
    "lost",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        words = item.path.stem.split("_")[1:]
        return min((place for place, name in enumerate(LONGEST) if name in words), default=len(LONGEST))

    items.sort(key=place)


def pytest_report_header() -> str:
    return f"moments of the kills: FAULT_SEED={os.environ['FAULT_SEED']}"


@pytest.fixture(scope="session", autouse=True)
def _copied_stores() -> Iterator[None]:
    """A store that this process makes is a copy; those of the processes that tests start are made by MLflow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_create", copy_empty)
        yield


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a made-up data set: 250 training images, no multiple of 32, and 96 test images."""
    return write_made_up(tmp_path_factory.mktemp("made-up"), train=250)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A made-up set in a folder that another user can reach, too (pytest's own folders are private)."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield write_made_up(Path(name) / "data")


@pytest.fixture(scope="session")
def made_up_data(made_up: Path) -> Dataset:
    return load(made_up)


@pytest.fixture(scope="session")
def engine() -> None:
    """TensorFlow in this process on one thread and deterministic. Whatever runs an operation must ask for this."""
    from fashion_cnn.training import set_up_process

    set_up_process(threads=1)


@pytest.fixture(autouse=True)
def _operations_only_with_the_engine() -> Iterator[None]:
    """A test that ran one without asking for it fails itself, and not whichever asks for it later in this process."""
    yield
    context = sys.modules.get("tensorflow.python.eager.context")
    if context is None or (made := context.context_safe()) is None or not made._initialized:
        return
    threads = made.intra_op_parallelism_threads
    assert threads == 1, "this test runs TensorFlow in its own process; it must ask for the fixture `engine`"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; a machine without it skips, but CI must have it."""
    from playwright.sync_api import expect, sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        assert "CI" not in os.environ, "CI must install Chromium"
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    expect.set_options(timeout=240_000)  # ms, as below: what must be seen is seen at last on a busy machine, too
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM, timeout=240_000)  # ms; a cold start
        yield chromium
        chromium.close()


def weights_sha256(model: Any) -> str:
    """What a record calls `weights_sha256`, of any Keras model."""
    variables = {f"{layer.name}/{variable.name}": variable for layer in model.layers for variable in layer.weights}
    return arrays_sha256({name: np.array(variable) for name, variable in variables.items()})


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a fresh process; `answer` takes what it prints."""
    rarely = "from fashion_cnn.start import collect_rarely; collect_rarely()"  # as here
    return subprocess.Popen(
        [sys.executable, "-c", f"{rarely}\n{code}", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process: subprocess.Popen[str]) -> Any:
    """The JSON value in the last line that a process prints."""
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


FRESH = """
import json, sys
import keras
from fashion_cnn.builder import ModelBuilder
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.data import load
from fashion_cnn.models import build
from fashion_cnn.training import set_up_process
from tests.conftest import weights_sha256

set_up_process(threads=1)
keras.utils.set_random_seed(int(sys.argv[2]))  # of python, numpy, tensorflow and keras
data = load(sys.argv[1])
built = {"cnn": weights_sha256(build(CNN, 0)), "dense": weights_sha256(build(DENSE, 0))}
builder = ModelBuilder(
    data.train_images, data.train_labels, data.test_images, data.test_labels, epochs=2, filters=4, seed=7
)
builder.fit()
print(json.dumps(built | {"trained": weights_sha256(builder.model), "tested": builder.test()}))
"""


@pytest.fixture(scope="session")
def fresh(made_up: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh process with a global seed of its own builds (`cnn`, `dense`) and trains (`trained`, `tested`)."""

    def make() -> bytes:
        return json.dumps(answer(python(FRESH, made_up, 1))).encode()

    made: dict[str, Any] = json.loads(made_once(tmp_path_factory, "fresh", make))
    return made


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[], bytes]) -> bytes:
    """What takes long to make, made once for all of xdist's processes, by the first that asks; the others wait."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each process has its own within that of the test run
    path = folder / f"made-once-{name}"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            path.write_bytes(make())
        return path.read_bytes()
