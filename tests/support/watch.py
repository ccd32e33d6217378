"""What happens while a command runs: wait for it, see its processes, break what they do."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.command import REPOSITORY, Lab

PATIENCE = 300.0  # seconds, for a machine with more to do
GIVES_UP = 15.0  # seconds in which a worker without a runner must be gone

# Makes a terminal the process' own, as a login does, and becomes the command.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def wait_until(holds: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait for something to hold; fail if it does not in time."""
    until = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.05)  # a look at all processes takes some milliseconds


def stop_ui(process: subprocess.Popen[str], number: signal.Signals, port: int, log: Path) -> None:
    """Stop a UI by a signal: it says so in its log and by its status, and no server is left at its port."""
    process.send_signal(number)
    assert process.wait(PATIENCE) == 128 + number
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    errors = log.read_text(encoding="utf-8")
    assert errors.endswith(f"stopped by {number.name}; the store stays as it is\n") and "Traceback" not in errors


def epochs(lab: Lab, folder: str = "") -> int:
    """How many epochs the longest trajectory of a lab has (or the one whose folder is so named)."""
    return max((len(one.epochs()) for one in lab.trajectories() if one.folder.name.startswith(folder)), default=0)


def wait_for_epochs(lab: Lab, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a command has trained so far; it must still be at it."""

    def reached() -> bool:
        assert process.poll() is None, f"it ended before epoch {count}"
        return epochs(lab) >= count

    wait_until(reached, f"epoch {count}")


def processes(lab: Lab) -> dict[int, str]:
    """The processes of a lab that run now, by id.

    Each is `runner`, `template`, or the name of the folder of a worker's trajectory. A worker that was forked has its
    template's command line and variables, which may be another lab's: where it prints to tells what it is.
    """
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            variables = (place / "environ").read_bytes().split(b"\0")
            words = (place / "cmdline").read_bytes().split(b"\0")
            output = Path(os.readlink(place / "fd" / "1"))
        except OSError:  # it ended, or is a zombie
            continue
        of_lab = f"MLFLOW_TRACKING_URI={lab.uri}".encode() in variables
        if output.match("worker*.log") and (of_lab or output.is_relative_to(lab.folder)):
            found[int(place.name)] = output.parent.name
        elif of_lab:
            found[int(place.name)] = "template" if b"fashion_cnn.running.template" in words else "runner"
    return found


def workers(lab: Lab) -> dict[int, str]:
    """The workers of a lab that run now, by id: the name of the folder of each one's trajectory."""
    return {number: name for number, name in processes(lab).items() if name not in ("runner", "template")}


def kill(number: int) -> None:
    """SIGKILL, also to a process that has just ended."""
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


@contextmanager
def ending(lab: Lab) -> Iterator[Lab]:
    """End every process of a lab with the block, however that ends."""
    try:
        yield lab
    finally:
        for number in processes(lab):
            kill(number)


@contextmanager
def killing_workers(lab: Lab, times: int, wanted: Callable[[str], bool] = lambda folder: True) -> Iterator[list[str]]:
    """Kill so many workers, as the system does when memory runs out, while the block runs.

    Args:
        lab: whose.
        times: at most one kill a worker.
        wanted: of which trajectory, by its folder.

    Yields:
        The folders of those that were killed, so far.
    """
    killed: list[str] = []
    over = threading.Event()

    def hunt() -> None:
        seen: set[int] = set()
        while len(killed) < times and not over.wait(0.05):
            for number, folder in workers(lab).items():
                if number not in seen and wanted(folder) and len(killed) < times:
                    seen.add(number)
                    kill(number)
                    killed.append(folder)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield killed
    finally:
        over.set()
        hunter.join()


@dataclass(frozen=True)
class Terminal:
    """A command on a terminal of its own."""

    process: subprocess.Popen[str]
    screen: int
    """The other side of the terminal."""

    def read(self) -> None:
        """Take what was printed, as a terminal does; else the command waits."""
        while select.select([self.screen], [], [], 0)[0]:
            os.read(self.screen, 65536)

    def close(self) -> None:
        """Hang up."""
        os.close(self.screen)


def start_on_terminal(lab: Lab, *words: object) -> Terminal:
    """Start a command as from a window that can be closed."""
    screen, inside = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *lab.command(*words)],
        cwd=REPOSITORY,
        env={**lab.variables, "TERM": "xterm"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        text=True,
        start_new_session=True,
    )
    os.close(inside)
    return Terminal(process, screen)


def refusing(folder: Path, module: str, words: str) -> str:
    """Have a package fail to be imported in every Python process; returns the PYTHONPATH that does it."""
    return in_every_process(
        folder,
        f"""
import sys
class Refusing:
    @staticmethod
    def find_spec(name, *_):
        if name == {module!r}:
            raise ImportError({words!r})
sys.meta_path.insert(0, Refusing)
""",
    )


def in_every_process(folder: Path, code: str) -> str:
    """Have every Python process run some code first; returns the PYTHONPATH that does it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return str(folder)
