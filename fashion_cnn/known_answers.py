"""Small problems whose answers are known: does this machine give the bits that are published?

Each trains one epoch of a small made-up data set, a step that is not full included, and evaluates the state after it.
Together they have each layer, width and padding of the studies, the images drawn by the seed and mirrored, the sizes of
the studies' last steps (4, 12, 16 and 24 images), Adam and the evaluation. The answers, SHA-256 of the
weights and of the evaluation, are in `known_answers.json` with the versions that they hold for.

`python -m fashion_cnn.known_answers` answers them with the modules and variables of this process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fashion_cnn.config import CNN, DENSE, RunConfig, hash_of
from fashion_cnn.environment import (
    KERNELS,
    LIBRARIES,
    Arithmetic,
    Choice,
    EnvironmentFault,
    choose,
    fingerprint,
    machine,
    own_command,
    worker_variables,
)
from fashion_cnn.sample import sample_places
from fashion_cnn.sources import code_sha256

FILE: Final = Path(__file__).with_suffix(".json")
SEED: Final = 2015
TRAINED, TESTED = 100, 64  # images: three steps of 32 and one of 4, where a problem takes all
QUICK: Final = ("dense", "32 filters")
"""What is asked before a machine trains, once; `doctor` asks all."""
PROBLEMS: Final[Mapping[str, RunConfig]] = {
    "dense": DENSE,
    "16 filters": replace(CNN, filters=16),
    "32 filters": CNN,
    "64 filters": replace(CNN, filters=64),
    "0 additional convolutions": replace(CNN, additional_convolutions=0),
    "2 additional convolutions": replace(CNN, additional_convolutions=2),
    "1 additional convolution, same padding": replace(CNN, padding="same"),
    "3 additional convolutions, same padding": replace(CNN, padding="same", additional_convolutions=3),
    "76 images": replace(CNN, training_images=45_600),
    "80 images of a drawn split": replace(CNN, training_images=48_000, split="drawn"),
    "76 images and their mirror images": replace(CNN, training_images=45_600, augmentation="mirror"),
}


def answers(names: Sequence[str] = tuple(PROBLEMS)) -> Iterator[tuple[str, str]]:
    """Solve problems in this process, which TensorFlow must be set up for.

    Yields:
        The name of each and the hex SHA-256 of what came out: the hash of the weights, the losses and the accuracy in
        full precision, the predicted classes.
    """
    from fashion_cnn.evaluation import predictions
    from fashion_cnn.training import Trainer

    random = np.random.Generator(np.random.PCG64(SEED))
    images = random.integers(0, 256, (TRAINED + TESTED, 28, 28), dtype=np.uint8)
    labels = random.integers(0, 10, TRAINED + TESTED, dtype=np.uint8)
    for name in names:
        training, tested = sample_places(PROBLEMS[name], SEED, TRAINED, TESTED)
        trainer = Trainer(PROBLEMS[name], SEED, images[training], labels[training])
        epoch = trainer.train_epoch()
        evaluation = trainer.evaluate(images[tested], labels[tested])
        classes, _ = predictions(evaluation.probabilities, labels[tested])
        parts = (trainer.state().weights_sha256(), epoch.loss, epoch.accuracy, evaluation.loss, evaluation.accuracy)
        text = " ".join(map(str, (*parts, classes.tobytes().hex())))
        yield name, hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """What the answers depend on besides the code: the versions of the libraries here."""
    here = fingerprint(threads=1)
    return {name: here[name] for name in LIBRARIES}


def known() -> dict[str, Any]:
    """The file: `answers` by problem, the `code_sha256` and the `versions` that they hold for."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


Solve = Callable[[Sequence[str]], Mapping[str, str]]
"""Has problems of these names solved in a process with a worker's variables; an EnvironmentFault where that fails."""


def solve_apart(names: Sequence[str]) -> Mapping[str, str]:
    """Solve problems in a fresh process; see `Solve`."""
    command = own_command("fashion_cnn.known_answers", *names)
    return _computed(command, worker_variables(os.environ, "cpu", "portable"))


def differing(*, quick: bool, solve: Solve = solve_apart) -> list[str]:
    """The problems that a worker of this machine answers otherwise.

    Args:
        quick: whether to ask the two of `QUICK` only.
        solve: has them solved.

    Raises:
        EnvironmentFault: the answers are of other versions or of other code, or the process failed.
    """
    expected = known()
    if versions() != expected["versions"]:
        told = ", ".join(f"{name} {version}" for name, version in expected["versions"].items())
        raise EnvironmentFault(f"answers are known for {told} only")
    if code_sha256() != expected["code_sha256"]:
        raise EnvironmentFault("no answers are known for this code (python -m fashion_cnn.known_answers --write)")
    return _others(solve(QUICK if quick else tuple(PROBLEMS)))


def _others(found: Mapping[str, str]) -> list[str]:
    expected = known()["answers"]
    return [name for name, answer in found.items() if answer != expected[name]]


def _computed(command: Sequence[str], variables: Mapping[str, str]) -> dict[str, str]:
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise EnvironmentFault(f"the known answers could not be computed: {last[0]}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def settled(asked: Arithmetic | None, *, threads: int = 1, device: str = "cpu", solve: Solve = solve_apart) -> Choice:
    """The arithmetic of runs on this machine, after it has answered `QUICK`: once a boot and set of packages.

    Args:
        asked: by the user; None leaves it to the machine.
        threads: of one run.
        device: `cpu` or `gpu`.
        solve: has the problems solved.

    Raises:
        EnvironmentFault: `portable` was asked for and cannot be had; says why.
    """
    choice = choose(asked, threads=threads, device=device)
    if choice.arithmetic == "native":
        return choice
    fault = _remembered_fault(solve)
    if fault and asked == "portable":
        raise EnvironmentFault(f"arithmetic is portable, but {fault}; use --arithmetic native")
    return Choice("native", fault) if fault else choice


def _remembered_fault(solve: Solve) -> str:
    """Why this machine does not give the published bits, or nothing; looked up where it was asked before."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fashion-cnn" / "known_answers.json"
    key = _machine_key()
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text(encoding="utf-8"))[key])
    try:
        others = differing(quick=True, solve=solve)
        fault = f"this machine answers otherwise than is known: {', '.join(others)}" if others else ""
    except EnvironmentFault as error:
        return str(error)
    with suppress(OSError):  # without a cache it is asked again
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump({key: fault}, file)
        os.replace(file.name, path)
    return fault


def _machine_key() -> str:
    """What the answers may depend on: the machine since it was started, the packages, the code."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    here = {name: value for name, value in machine().items() if name in ("processor", "vector_flags", "caches")}
    whole = [boot, platform.node(), sys.prefix, here, fingerprint(threads=1), code_sha256()]
    return hash_of(whole)


def emulate(processor: str, names: Sequence[str]) -> list[str]:
    """The problems that an emulated processor answers otherwise.

    Args:
        processor: a name that `qemu-x86_64 -cpu help` lists, with AVX2.
        names: of the problems.

    Raises:
        EnvironmentFault: qemu is not installed, or the process failed.
    """
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        raise EnvironmentFault("no emulator is installed: apt-get install qemu-user")
    folders = [path for path in sys.path if path.endswith("site-packages")]
    variables = worker_variables(os.environ, "cpu", "portable")
    python, *words = own_command("fashion_cnn.known_answers", *names)
    command = [emulator, "-cpu", processor, os.path.realpath(python), *words]
    return _others(_computed(command, {**variables, "PYTHONPATH": os.pathsep.join(folders)}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the answers of this process, with its variables, as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"of: {', '.join(PROBLEMS)} (default: all)")
    parser.add_argument("--emulated", nargs="+", metavar="CPU", help="have qemu's processors of these names answer")
    parser.add_argument("--write", action="store_true", help="keep a worker's answers: after a change of numbers")
    given = parser.parse_args(arguments)
    if unknown := set(given.problems) - set(PROBLEMS):
        parser.error(f"there is no problem {min(unknown)!r}; there are: {', '.join(PROBLEMS)}")
    try:
        if given.emulated:
            return _emulated(given.emulated, given.problems or tuple(PROBLEMS))
        if given.write:
            _write(solve_apart(tuple(PROBLEMS)))
            return 0
    except EnvironmentFault as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from fashion_cnn.training import set_up_process

    set_up_process(threads=1)
    print(json.dumps(dict(answers(given.problems or tuple(PROBLEMS)))))
    return 0


def _write(found: Mapping[str, str]) -> None:
    basis = {"code_sha256": code_sha256(), "versions": versions(), "kernels": dict(KERNELS["portable"])}
    FILE.write_text(json.dumps({**basis, "answers": found}, indent=1) + "\n", encoding="utf-8")


def _emulated(processors: Sequence[str], names: Sequence[str]) -> int:
    status = 0
    for processor in processors:
        others = emulate(processor, names)
        status = 1 if others else status
        print(f"{processor}: {'other answers to ' + ', '.join(others) if others else 'as is known'}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
