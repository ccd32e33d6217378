"""Disks that are full: training is told, the store waits, nothing half is left."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fashion_cnn.events import EpochDone
from fashion_cnn.store.address import StoreError
from fashion_cnn.store.files import Unwritable
from fashion_cnn.store.recorder import Recorder
from fashion_cnn.store.tracking import Store
from tests.support.command import Lab
from tests.support.made_up import write_made_up
from tests.support.scripted import events, header_and_record, open_store, state
from tests.support.stores import FOUR, LONG, is_whole, wait_until

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Disk:
    """A small disk, or a limit to the size of files, which does the same where nothing can be mounted."""

    folder: Path
    limited: bool

    @contextmanager
    def full(self) -> Iterator[None]:
        """Within it, no file grows."""
        ballast, before = self.folder / "ballast", resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            if self.limited:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            else:
                _fill(ballast)
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            ballast.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 1):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(size))


def may_mount() -> bool:
    """Whether the system lets this process mount anything: root may, but not in every container."""
    (capabilities,) = re.findall(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(int(capabilities, 16) >> 21 & 1)  # CAP_SYS_ADMIN


def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A folder on a small disk of its own."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if made.returncode != 0:
        assert "CI" not in os.environ or not may_mount(), "CI must not leave this out where it may mount"
        pytest.skip(f"this user cannot mount a small disk: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)  # a database may be open still


@pytest.fixture(params=["a small disk", "a limit to files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "a limit to files":
        (tmp_path / "disk").mkdir()
        yield Disk(tmp_path / "disk", limited=True)
    else:
        for folder in mounted(tmp_path / "disk", "8m"):
            yield Disk(folder, limited=False)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    for folder in mounted(tmp_path / "disk", "8m"):
        yield Disk(folder, limited=False)


def elsewhere(folder: Path, name: str, target: Path) -> None:
    """Have a part of a store lie on another disk."""
    folder.mkdir(exist_ok=True)
    target.mkdir()
    (folder / name).symlink_to(target)


@pytest.mark.fault("disk-full-checkpoint", note="a small tmpfs, and a limit to files where nothing can be mounted")
def test_a_checkpoint_that_does_not_fit_is_told_and_the_one_before_is_kept(disk: Disk) -> None:
    store = open_store(disk.folder)
    trajectory, run = header_and_record(store, FOUR)
    said = list(events(trajectory, 4))
    assert trajectory.acquire()
    with Recorder(store) as recorder:
        recorder.begin(trajectory, [run])
        for event in said[:4]:
            recorder.take(trajectory, event)
        wait_until(lambda: trajectory.sent(run).sheets == (0, 1))  # nothing is left to send and to note
        assert isinstance(said[4], EpochDone) and said[4].epoch == 2
        with disk.full():
            with pytest.raises(Unwritable) as caught:
                recorder.take(trajectory, said[4])
            files = sorted(path.name for path in trajectory.folder.rglob("*") if path.is_file())
            failed = recorder.end(trajectory, "failed", "error", str(caught.value))
            with pytest.raises(StoreError, match=r"cannot be written \(.+\); make room there or name another store"):
                Store(store.address)
            assert Store(store.address, create=False).runs()["status"].tolist() == ["RUNNING"]
        assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
        weights = trajectory.folder / "weights" / "000002.npz"
        assert str(caught.value) == (
            f"{weights} cannot be written ({caught.value.strerror}); once it can, the same command goes on"
        )
        kept = {"header.json", "started.json", "epochs.jsonl", f"{run.record}.json", f"{run.record}.sent.json", "lock"}
        assert set(files) == kept | {"000001.npz", "convolution_1.png"}  # nothing half
        assert [one.status for one in failed] == ["failed"]
        latest = trajectory.latest_state()
        assert latest is not None and latest.sha256() == state(0, 1).sha256()
        recorder.begin(trajectory, [run])
        for event in said[4:]:
            recorder.take(trajectory, event)
        recorder.leave(trajectory)
    (row,) = store.runs().to_dict("records")
    assert is_whole(store, row["run_id"])


@pytest.mark.parametrize("part", ["database", "artifacts"])
@pytest.mark.fault("disk-full-store")
def test_what_the_store_has_no_room_for_is_sent_when_there_is_room(
    small: Disk, part: str, tmp_path: Path, hurried: None, capfd: pytest.CaptureFixture[str]
) -> None:
    if part == "database":
        home = small.folder
        for name in ("trajectories", "artifacts"):
            elsewhere(home, name, tmp_path / name)
    else:
        home = tmp_path / "home"
        elsewhere(home, "artifacts", small.folder / "artifacts")
    store = open_store(home)
    trajectory, run = header_and_record(store, LONG)
    assert trajectory.acquire()
    with Recorder(store) as recorder:
        recorder.begin(trajectory, [run])
        said = events(trajectory, 40)
        for _ in range(4):
            recorder.take(trajectory, next(said))
        wait_until(lambda: 1 in trajectory.sent(run).sheets)
        with small.full():
            for event in said:  # training is not held up
                recorder.take(trajectory, event)
            wait_until(lambda: recorder.trouble is not None)
            assert recorder.trouble is not None and recorder.trouble.startswith(
                f"the tracking store {store.address.name} did not answer as it should: "
                + ("database or disk is full" if part == "database" else "No space left on device: ")
            )
            assert "\n" not in recorder.trouble
            assert store.runs()["status"].tolist() == ["RUNNING"]  # no more than what happened
            assert trajectory.runs()[0].status == "finished"
        recorder.leave(trajectory)
    assert recorder.trouble is None
    (row,) = store.runs().to_dict("records")
    assert row["status"] == "FINISHED" and is_whole(store, row["run_id"])
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.fault("disk-full-checkpoint")
def test_a_training_that_fills_the_disk_ends_with_a_clear_line_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    data = write_made_up(tmp_path / "data", train=64, test=64)
    train = ("train", "--model", "dense", "--epochs", 12)
    for folder in mounted(tmp_path / "disk", "5m"):
        lab = Lab(folder, data)
        open_store(folder)
        said = lab.call(*train, status=1)
        kept = len(lab.trajectories()[0].epochs())
        assert 1 <= kept < 12
        (line,) = [line for line in said.splitlines() if "its run failed" in line]
        assert line.endswith(" cannot be written (No space left on device); once it can, the same command goes on")
        assert "1 of them did not finish; the same command goes on with them." in said and "Traceback" not in said
        assert "FINISHED" not in lab.call("list")
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        assert "starting after epoch" in lab.call(*train)
        (row,) = lab.runs().to_dict("records")
        assert (row["status"], row["epochs_trained"]) == ("FINISHED", 12)
