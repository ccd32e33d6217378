"""Make each notebook from its text twin and run it: `python notebooks/execute.py [--to FOLDER] [NAME...]`.

The twin, `NAME.py` in jupytext's percent format, is what is edited; `NAME.ipynb` is made of it and holds the outputs.
Cells run in a fresh process of this Python, which is reached without a network and keeps Jupyter's own files in a
folder that is deleted afterwards. It finds no recorded runs, so the outputs are those of the published results; where
MLFLOW_TRACKING_URI is set, it finds the runs of that store.

What differs each time (execution times, versions) is left out, warnings go to standard error, pictures get a palette,
and a notebook whose outputs name a path or this machine is not written. A cell that fails ends the command with
status 1 and the cell's traceback.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

HERE = Path(__file__).resolve().parent
NAMES = ("fashion_mnist_cnn", "compare_runs")
PAIRED = "ipynb,py:percent"
CELL_SECONDS = 200  # what a cell may take before it counts as hanging


def cells_of(twin: Path) -> Any:
    """The notebook of a text twin, without outputs; the same text gives the same cells, ids included."""
    notebook = jupytext.read(twin)
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"], cell["metadata"] = f"cell-{number:02}", {}
    notebook["metadata"] = {
        "jupytext": {"formats": PAIRED},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def execute(notebook: Any, folder: Path, scratch: Path) -> None:
    """Run a notebook's cells from top to bottom, in place.

    Args:
        notebook: gets the outputs.
        folder: the cells' working directory.
        scratch: an empty folder for Jupyter's own files.

    Raises:
        CellExecutionError: a cell failed; its message is the traceback.
    """
    # Given no folders to search, it takes this Python's own kernel, whatever others the user has; ipc uses no network.
    manager = KernelManager(
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        transport="ipc",
        connection_file=str(scratch / "kernel.json"),
    )
    client = NotebookClient(
        notebook, km=manager, timeout=CELL_SECONDS, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    variables = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{scratch / 'mlruns' / 'mlflow.db'}",  # there is none
        **os.environ,
        **{name: str(scratch / name) for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")},
    }
    try:
        # TensorFlow's messages go past Python to the process' standard error.
        client.execute(env=variables, stderr=subprocess.DEVNULL)
    finally:
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)


def without_what_changes(notebook: Any) -> Any:
    """Compress pictures, join the lines of a stream, and print warnings on standard error instead of keeping them."""
    notebook["metadata"]["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell["metadata"] = {}
        outputs: list[Any] = []
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                print(output["text"], end="", file=sys.stderr)
            elif output.get("name") == "stdout" and outputs and outputs[-1].get("name") == "stdout":
                outputs[-1]["text"] += output["text"]
            else:
                outputs.append(output)
                if png := output.get("data", {}).get("image/png"):
                    output["data"]["image/png"] = pressed(png)
        if cell["cell_type"] == "code":
            cell["outputs"] = outputs
    return notebook


def pressed(png: str) -> str:
    """A picture, a PNG file in base64, reduced to a palette: a third of the size."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        # Of the methods this one keeps rare colours, such as those of small marks.
        picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def names_of_this_machine(notebook: Any) -> list[str]:
    """The paths and host name of this machine that a notebook's outputs contain; pictures are not searched."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    left_out = ("data", "image/png")
    texts = json.dumps(
        [
            {kind: text for kind, text in {**output, **output.get("data", {})}.items() if kind not in left_out}
            for output in outputs
        ],
        ensure_ascii=False,
    )
    sought = [str(HERE.parent), str(Path.home()), tempfile.gettempdir(), sys.prefix, platform.node()]
    words = "|".join(re.escape(word) for word in sought if len(word) > 1)
    return sorted(set(re.findall(rf"(?<!\w)(?:{words})(?!\w)", texts)))


def main() -> int:
    """Build and run the requested notebooks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--to", type=Path, default=HERE, metavar="FOLDER", help="where the .ipynb goes (notebooks)")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in NAMES]:
        parser.error(f"there is no notebook {unknown[0]!r}; there are: {', '.join(NAMES)}")
    for name in given.names or NAMES:
        started = time.perf_counter()
        notebook = cells_of(HERE / f"{name}.py")
        with tempfile.TemporaryDirectory(prefix="notebook-") as scratch:
            try:
                execute(notebook, HERE, Path(scratch))
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                return 1
        content = nbformat.writes(without_what_changes(notebook)) + "\n"
        if names := names_of_this_machine(notebook):
            print(f"error: {name} names {', '.join(names)} and was not written", file=sys.stderr)
            return 1
        path = given.to / f"{name}.ipynb"
        aside = path.with_name(f".{path.name}.part")
        aside.write_text(content, encoding="utf-8")
        aside.replace(path)
        seconds = time.perf_counter() - started
        print(f"{path.name}: {len(content) / 1024:.0f} KiB, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
