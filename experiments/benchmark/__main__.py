"""The options of `python -m experiments.benchmark`, and the call."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from experiments.benchmark import parts, scaling, sides, stores, suite
from experiments.benchmark.page import as_json, check_output, ratios, show, write
from experiments.benchmark.task import Figures, Task
from fashion_cnn.checkout import checkout
from fashion_cnn.config import nearest
from fashion_cnn.data import DataError
from fashion_cnn.download import find, load_dataset
from fashion_cnn.environment import LIBRARIES, fingerprint, machine, packages
from fashion_cnn.store.files import Unwritable

SIDES = sides.SIDES | stores.SIDES | suite.SIDES
PARTS: dict[str, Callable[[Task, argparse.Namespace], Figures]] = {
    "epoch": parts.measure_epoch,
    "suite": suite.measure_suite,
    "recording": parts.measure_recording,
    "startup": parts.measure_startup,
    "store": parts.measure_store,
    "scaling": scaling.measure_scaling,
    "server": scaling.measure_server,
}
USUAL = [name for name in PARTS if name not in ("scaling", "server")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    Args:
        arguments: in place of those of the process.

    Returns:
        The exit status: 0 done, 1 a side failed or the figures could not be written, 2 no such data; wrong use
        exits with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.side:
        print(json.dumps(SIDES[options.side](Task(**json.loads(sys.stdin.read())))))
        return 0
    name = "scaling" if options.scaling else "server" if options.server else "benchmark"
    chosen = options.only.split(",") if name == "benchmark" else [name]
    output = _check(options, chosen, name, parser)
    try:
        figures = measure([part for part in PARTS if part in chosen], options)
    except DataError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        print(f"benchmark: a measured process ended with status {error.returncode}: {''.join(last)}", file=sys.stderr)
        return 1
    status = 0
    try:
        if output:
            write(figures, output, name)
    except Unwritable as error:  # what was measured is printed all the same
        print(f"benchmark: {error.filename} cannot be written ({error.strerror})", file=sys.stderr)
        status = 1
    if options.json:
        print(as_json(figures))
    else:
        show(figures)
    return status


def _parser() -> argparse.ArgumentParser:
    # Without a usage an error is one line.
    parser = argparse.ArgumentParser("benchmark", argparse.SUPPRESS, "Speed side by side; nothing is asserted.")
    parser.add_argument("--only", default=",".join(USUAL), metavar="PART,...", help="(default: %(default)s)")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--scaling", action="store_true", help="only how far it scales: takes an hour")
    alone.add_argument("--server", metavar="URI", help="only how a tracking server fills, which must be empty")
    parser.add_argument(
        "--postgres",
        metavar="URI",
        help="of an empty database, which --scaling fills; its password may come from PGPASSWORD instead",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="R", help="of epoch, startup and scaling (default: 3)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--images", type=int, metavar="N", help="training images (default: all)")
    size.add_argument("--quick", action="store_true", help="a tenth of the training images")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of Fashion-MNIST's four files")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--output", metavar="DIR", help="folder to write a page and JSON into: benchmark.*, scaling.* or server.*"
    )
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser


def _check(
    options: argparse.Namespace, chosen: Sequence[str], name: str, parser: argparse.ArgumentParser
) -> Path | None:
    """The folder to write into, if any; exits with 2 where an option is not allowed."""
    for part in chosen:
        if name == "benchmark" and part not in USUAL:
            parser.error(f"there is no part {part!r}{nearest(part, USUAL)}; there are: {', '.join(USUAL)}")
    for option in ("repeats", "images"):
        if (value := getattr(options, option)) is not None and value < 1:
            parser.error(f"--{option.replace('_', '-')} is {value}; give a number above 0")
    if options.output == "":
        parser.error("--output is empty; name a folder")
    if options.output is None:
        return None
    output = Path(options.output)
    try:
        check_output(output, name)
    except OSError as error:
        reason = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        parser.error(f"--output {options.output!r} cannot be written ({reason}); name a folder that can")
    return output


def measure(chosen: Sequence[str], options: argparse.Namespace) -> Figures:
    """The date, the machine, the settings, what the chosen parts measured, and the ratios.

    Raises:
        DataError: there is no such data.
        CalledProcessError: a side failed.
    """
    data = load_dataset(options.data_dir)
    train, test = len(data.train_labels), len(data.test_labels)
    used = options.images or (max(1, train // 10) if options.quick else train)
    data.first(used, test)  # refuses more than there are
    options.scale = train / used
    task = Task(str(find(options.data_dir)), (used, test))
    source = checkout()
    settings = {
        "parts": list(chosen),
        "repeats": options.repeats,
        "images": used,
        "all_images": train,
        "test_images": test,
        "data": data.name,
        "data_sha256": data.sha256,
        "config": dict(task.settings),
        "commit": source.commit + (", changed" if source.dirty else ""),
    }
    here = _machine()
    date = datetime.now(UTC).isoformat(timespec="seconds")
    measured = {part: PARTS[part](task, options) for part in chosen}
    return {"date": date, "machine": here, "settings": settings, **measured, "ratios": ratios(measured)}


def _machine() -> Figures:
    here, libraries = machine(), fingerprint(threads=1)
    torch = [package.removeprefix("torch==") for package in packages() if package.startswith("torch==")]
    return {
        **{name: here[name] for name in ("processor", "python")},
        **{name: libraries[name] for name in LIBRARIES},
        **({"torch": torch[0]} if torch else {}),
        **{name: here[name] for name in ("cores", "load")},
    }


if __name__ == "__main__":
    sys.exit(main())
