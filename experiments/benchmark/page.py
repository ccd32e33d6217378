"""What a benchmark measured: printed, or written as JSON and as a page of Markdown with the same numbers."""

from __future__ import annotations

import errno
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.benchmark.task import Figures
from fashion_cnn.store.files import write_bytes
from fashion_cnn.terminal import console, duration, table


def ratios(figures: Figures) -> dict[str, float]:
    """What may be quoted: quotients of what one call measured, for another machine has other seconds.

    Args:
        figures: by part; any may be missing.

    Returns:
        `epoch_cpu_ours_to_<side>`: the CPU seconds of our epoch by those of another side's;
        `limit_share_<side>`: what a side reaches of the processor's limit, from 0 to 1;
        `suite_post_to_<arithmetic>`: the wall time of the post's way by ours, all runs of a seed;
        `recording_share`: the CPU time of recording a run by that of its training.
    """
    quotients = {}
    if part := figures.get("epoch"):
        sides = part["sides"]
        ours = sides["ours"]["cpu_seconds"]["median"]
        for side in sides.keys() - {"ours"}:
            quotients[f"epoch_cpu_ours_to_{side}"] = ours / sides[side]["cpu_seconds"]["median"]
        quotients |= {f"limit_share_{side}": values["share_of_limit"] for side, values in sides.items()}
    if part := figures.get("suite"):
        quotients |= {f"suite_post_to_{way}": ratio for way, ratio in part["ratios"].items()}
    if part := figures.get("recording"):
        quotients["recording_share"] = part["share"]
    return dict(sorted(quotients.items()))


def spread(values: Sequence[float]) -> Figures:
    """The median of some values, the least and the most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


@dataclass(frozen=True)
class Section:
    """What the console and the page say of a part."""

    title: str
    left: Sequence[str] = ()
    """The heads of columns of text."""
    right: Sequence[str] = ()
    """The heads of columns of numbers, which follow."""
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()


def sections(figures: Figures) -> list[Section]:
    """All that was measured, part by part: medians, the least and the most, and of how many measurements."""
    writers: dict[str, Callable[[Figures], list[Section]]] = {
        "epoch": _epoch_sections,
        "suite": _suite_sections,
        "recording": _recording_sections,
        "startup": _startup_sections,
        "store": _store_sections,
        "scaling": _scaling_sections,
        "server": _server_sections,
    }
    return [section for part, write_up in writers.items() if part in figures for section in write_up(figures[part])]


def _epoch_sections(part: Figures) -> list[Section]:
    rows = []
    for side, values in part["sides"].items():
        reached = f"{values['flops_per_second']['median'] / 1e9:.1f}", f"{values['share_of_limit']:.1%}"
        seconds = _median(values["cpu_seconds"]), _median(values["seconds"])
        per_second = f"{values['images_per_second']['median']:,.0f}"
        to_fit = [f"{ratio:.2f}" for ratio in values["ratio_to_fit"].values()]
        rows.append([side, *seconds, per_second, *to_fit, *reached])
    arithmetics = "ours: our step in the portable arithmetic; native: in the native one; " * ("native" in part["sides"])
    limit = part["limit"]
    low, middle, high = (limit["flops_per_second"][name] / 1e9 for name in ("least", "median", "most"))
    notes = [
        f"fit: Keras' as it comes; tuned: fit with oneDNN's kernels and {part['steps_per_call']} steps a call; "
        f"{arithmetics}"
        "torch: PyTorch, a plain eager loop; images/s by wall time, GFLOP/s by CPU time",
        f"The limit: {middle:.1f} GFLOP/s ({low:.1f} to {high:.1f}), a product of two float32 matrices of "
        f"{limit['size']:,} x {limit['size']:,} by TensorFlow on one thread, the best of {limit['calls']} calls in "
        f"each of {part['repeats']} processes",
        f"An epoch: {part['operations'] / 1e9:,.1f} GFLOP, those of convolutions and dense layers, forward and back",
    ]
    if "torch" not in part["sides"]:
        notes.append("torch: skipped, PyTorch is not installed here")
    heads = ("CPU s", "wall s", "images/s", "CPU to fit's", "wall to fit's", "GFLOP/s", "of the limit")
    title = f"One epoch of the default CNN: {part['images']:,} images, one thread, median of n = {part['repeats']}"
    return [Section(title, ("side",), heads, rows, notes)]


def _suite_sections(part: Figures) -> list[Section]:
    ways = list(part["seconds"])
    rows = []
    for row in part["networks"]:
        numbers = [f"{row[way][clock]:.1f}" for clock in ("seconds", "cpu_seconds") for way in ways]
        rows.append([row["network"], " ".join(map(str, row["epochs"]["post"])), *numbers])
    notes = [
        "post: each run from scratch, one after another, by plain fit on default threads, and its test; portable and "
        f"native: the suite recorded by {part['workers']} workers on a thread each. A network's seconds are the "
        "training of its runs (portable, native: of the longest, which the others are cut from)",
        *(f"In all, {way}: {duration(part['seconds'][way])}, {part['peak_memory_mib'][way]:.0f} MiB" for way in ways),
        *(f"post to {way}: {ratio:.2f}" for way, ratio in part["ratios"].items()),
    ]
    heads = [*(f"{way}, s" for way in ways), *(f"{way}, CPU s" for way in ways)]
    title = f"The post's studies, {part['runs']} runs of one seed, whole: {part['images']:,} images, n = 1"
    return [Section(title, ("network", "epochs of its runs"), heads, rows, notes)]


def _recording_sections(part: Figures) -> list[Section]:
    notes = [
        f"{part['share']:.1%} of its training's CPU time ({part['cpu_seconds']:.2f} of "
        f"{part['training_cpu_seconds']:.1f} s); a call's first run, with all that is imported and created once: "
        f"{part['first_cpu_seconds']:.1f} s",
        f"Peak memory of its worker: {part['peak_memory_mib']:.0f} MiB",
        f"Disk: {part['run_bytes'] / 2**20:.2f} MiB, after gc {part['run_bytes_after_gc'] / 2**20:.2f} MiB",
    ]
    return [Section(f"Recording a run of {part['epochs']} epochs, n = 1", notes=notes)]


def _startup_sections(part: Figures) -> list[Section]:
    notes = [f"fashion-cnn --help: {_median(part['seconds'])} s, median of n = {part['calls']}"]
    notes += [
        f"A worker until its first epoch begins, {how}: {_median(part[name])} CPU s, median of n = {part['starts']}"
        for how, name in (("forked", "forked_cpu_seconds"), ("in a fresh process", "fresh_cpu_seconds"))
    ]
    return [Section("Start-up", notes=notes)]


def _store_sections(part: Figures) -> list[Section]:
    rows = []
    for name, ratio in part["growth"].items():
        for count in part["runs"]:
            rows.append([name, f"{count:,}", *_command(part[f"{name}_{count}"])])
        rows.append([name, "growth", f"{ratio:.1f}x", ""])
    brought = part["import"]
    rows.append(["import", f"{brought['runs']:,}", *_command({**brought, "seconds": brought["process_seconds"]})])
    return [Section("A growing store, n = 1", ("command", "runs"), ("wall s", "peak MiB"), rows)]


def _scaling_sections(figures: Figures) -> list[Section]:
    rows = []
    for name, values in figures["executors"].items():
        cells = [*(_median(seconds) for seconds in values["seconds"].values()), f"{values['speedup']:.2f}"]
        cells += [*(f"{ratio:.3f}" for ratio in values["to_local"].values()), f"{values['overhead_seconds']:.1f}"]
        rows.append([name, *cells, f"{values['overhead_share']:.1%}", f"{values['seconds_besides_epochs']:.1f}"])
    title = (
        f"{figures['tasks']} runs of {figures['epochs']} epochs of the default CNN, {figures['images']:,} images, "
        f"median of n = {figures['repeats']}"
    )
    heads = (
        "1 worker, s",
        "2 workers, s",
        "speed-up",
        "1 worker to local",
        "2 workers to local",
        "a task more than local, s",
        "share",
        "a task besides its epochs, s",
    )
    notes = [
        "Wall times; more than local and its share: of one worker, the share with epochs "
        f"{figures['scaled_by']:.3g} times as long",
        _versions(figures),
    ]
    if "ray" not in figures["executors"]:
        notes.append("ray: skipped, it is not installed here (make extras)")
    return [Section(title, ("executor",), heads, rows, notes), _grown(figures)]


def _server_sections(figures: Figures) -> list[Section]:
    return [replace(_grown(figures), notes=[_versions(figures)]), *_asked(figures["stores"]["server"])]


def _asked(server: Figures) -> list[Section]:
    """What recording a run asks a server for; nothing where it was measured before that was told."""
    rows = []
    for name, values in server.get("requests", {}).items():
        count, seconds = values["count"], values["seconds"]
        rows.append([name, f"{count:.0f}", f"{seconds:.2f}", f"{1000 * seconds / count:.0f}"])
    title = "What recording a run asks the server for"
    note = "Several are on their way side by side: their seconds are more, in all, than recording a run takes"
    return [Section(title, ("request",), ("a run", "s a run", "ms each"), rows, [note])] if rows else []


def _grown(figures: Figures) -> Section:
    rows = []
    for name, store in figures["stores"].items():
        for count in figures["runs"]:
            commands = *_command(store[f"list_{count}"]), *_command(store[f"report_{count}"])
            rows.append([name, f"{count:,}", f"{store[f'record_{count}']['median']:.2f}", *commands])
        record, listed, report = (f"{store['growth'][what]:.1f}x" for what in ("record", "list", "report"))
        rows.append([name, "growth", record, listed, "", report, ""])
    columns = ("record a run, s", "list, s", "MiB", "report, s", "MiB")
    title = f"A growing store; recording: median of n = {figures['sent']}; list and report: n = 1"
    return Section(title, ("store", "runs"), columns, rows)


def _versions(figures: Figures) -> str:
    return ", ".join(f"{_NAMES[name]} {version}" for name, version in sorted(figures["versions"].items()))


_NAMES = {"mlflow": "MLflow", "postgresql": "PostgreSQL", "ray": "Ray", "sqlite": "SQLite"}


def _command(figures: Figures) -> tuple[str, str]:
    """The seconds and the peak memory of a command."""
    return f"{figures['seconds']:.1f}", f"{figures['peak_memory_mib']:.0f}"


def _median(values: Figures) -> str:
    return f"{values['median']:.2f} ({values['least']:.2f} to {values['most']:.2f})"


def show(figures: Figures) -> None:
    """Print what was measured."""
    out = console()
    out.print(figures["date"], _line(figures["machine"]), _line(_what(figures)), sep="\n")
    for section in sections(figures):
        out.print()
        if section.rows:
            grid = table(section.title, section.left, section.right)
            for row in section.rows:
                grid.add_row(*row)
            out.print(grid)
        else:
            out.print(section.title)
        for note in section.notes:
            out.print(note)


def page(figures: Figures) -> str:
    """What was measured, as Markdown; the numbers are those that are printed."""
    from fashion_cnn.reports.markdown import table as markdown_table

    lines = [
        "# Speed side by side",
        "",
        "By `python -m experiments.benchmark`, which measures all sides in turn in one call. Seconds are this",
        "machine's: quote the ratios only. All figures stand in the JSON file beside this one.",
        "",
        f"- date: {figures['date']}",
        *(f"- {name}: {value}" for name, value in {**figures["machine"], **_what(figures)}.items()),
    ]
    for section in sections(figures):
        lines += ["", f"## {section.title}", ""]
        if section.rows:
            heads = [*section.left, *section.right]
            lines += [markdown_table(heads, section.rows, numbers=range(len(section.left), len(heads))), ""]
        lines += [f"- {note}" for note in section.notes]
    return "\n".join(lines).rstrip() + "\n"


def _what(figures: Figures) -> Figures:
    """What of the settings a reader must know."""
    given = figures["settings"]
    images = f"{given['images']:,} of {given['all_images']:,} training images"
    return {"data": f"{given['data']}, {images}", "commit": given["commit"]}


def _line(values: Figures) -> str:
    return " · ".join(f"{name} {value}" for name, value in values.items())


def check_output(folder: Path, name: str) -> None:
    """Make the folder for the output and check that it takes files: before the hours of measuring.

    Raises:
        OSError: it cannot be made or written, or a folder has the name of a file to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    for file in _files(name):
        if (folder / file).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{file} in it is a folder")


def write(figures: Figures, folder: Path, name: str) -> None:
    """Write the figures and their page, under a name.

    Raises:
        Unwritable: a file could not be written.
    """
    for file, text in zip(_files(name), (as_json(figures), page(figures)), strict=True):
        write_bytes(folder / file, f"{text.rstrip()}\n".encode())


def _files(name: str) -> tuple[str, str]:
    return f"{name}.json", f"{name}.md"


def as_json(figures: Figures) -> str:
    """The figures as JSON text."""
    return json.dumps(figures, indent=1, allow_nan=False)
