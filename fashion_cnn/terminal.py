"""What a person reads: a console that survives a reader who leaves, tables, durations."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Dashes, the minus sign and what else is printed that Unicode itself breaks into no ASCII.
NEAR = str.maketrans("\u2013\u2014\u2212·\u00d7", "----x") | str.maketrans({"±": "+-", "→": "->", "≥": ">=", "≤": "<="})
LOG_WIDTH = 150  # columns where there is no terminal to ask


class _Lasting:
    """Standard error that falls silent once its reader or terminal is gone: no message there is worth a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _silencing(self._stream):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _silencing(self._stream):
            self._stream.flush()


@contextmanager
def _silencing(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except OSError:
        silence(stream)


def silence(stream: TextIO) -> None:
    """Have what is still to be written go nowhere, so that not even Python's last flush fails."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def readable_outputs() -> None:
    """Have what an output's encoding cannot say printed as something near it: a hyphen for a dash, `e` for `é`.

    An output that was closed from the start goes nowhere.
    """
    codecs.register_error("readable", _near)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for good
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="readable")


def _near(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = unicodedata.normalize("NFKD", error.object[error.start : error.end].translate(NEAR))
    letters = (letter for letter in text if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() else "?" for letter in letters), error.end


def complain(line: str) -> None:
    """Print a line on standard error if somebody can still read it."""
    print(line, file=cast("TextIO", _Lasting(sys.stderr)), flush=True)


def printable(text: str) -> str:
    """A text without what could act on a terminal or feign a line: others may have written it."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def knows_links(stream: TextIO, variables: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream is a terminal that is known to show a text as a link; nothing but its variables tells."""
    if not stream.isatty() or variables.get("TERM") in (None, "dumb", "linux"):
        return False
    if variables.get("VTE_VERSION", "").isdecimal() and int(variables["VTE_VERSION"]) >= 5000:
        return True
    programs = ("iTerm.app", "WezTerm", "ghostty", "vscode", "Hyper", "Tabby")
    return (
        variables.get("TERM_PROGRAM") in programs
        or variables["TERM"].startswith(("xterm-kitty", "foot", "alacritty", "xterm-ghostty", "contour"))
        or any(name in variables for name in ("KONSOLE_VERSION", "WT_SESSION", "DOMTERM"))
    )


def link(text: str, address: str) -> str:
    """A text that a terminal shows as a link (OSC 8)."""
    return f"\033]8;;{address}\033\\{text}\033]8;;\033\\"


def shown(status: int, show: Callable[[], None]) -> int:
    """Show the result of a command; its status stands though the reader of a pipe had enough."""
    try:
        show()
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    return status


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or error: as wide as the terminal or `COLUMNS`; in a file no line is broken."""
    from rich.console import Console  # half of the time that `--help` would take

    class QuietConsole(Console):
        def on_broken_pipe(self) -> None:
            """Let the caller end quietly, where Rich would end with status 1."""
            raise BrokenPipeError

    file = cast("TextIO", _Lasting(sys.stderr)) if stderr else sys.stdout
    seen = file.isatty()
    width = None if seen else LOG_WIDTH
    return QuietConsole(file=file, width=width, soft_wrap=not seen, highlight=False, markup=False)


def table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """An empty table with columns of text and columns of numbers."""
    from rich.table import Table

    empty = Table(title=title or None, title_justify="left")
    for name in left:
        empty.add_column(name, overflow="fold")
    for name in right:
        empty.add_column(name, justify="right", no_wrap=True)
    return empty


@contextmanager
def counting_down(what: str) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal; tell it how many there are still to come, from the start on.

    Elsewhere a line says that it begins, if there is anything to come.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    where = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=where, disable=not where.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None, visible=False)
        total: int | None = None

        def step(left: int) -> None:
            nonlocal total
            if total is None:
                total = left
                if left and not where.is_terminal:
                    complain(f"{what}: {left}")
            bar.update(task, total=total, completed=total - left, visible=total > 0)

        yield step


@dataclass(frozen=True)
class Grid:
    """What a table says."""

    left: Sequence[str]
    """The names of the columns of text."""
    right: Sequence[str]
    """The names of the columns of numbers, which come after them."""
    parts: Sequence[tuple[str, str, Sequence[Sequence[str]]]]
    """Of each part what it is about, such as a study, its heading, and its rows of cells; an empty row is a line."""
    about: str = "study"
    """What that is: the name of the column that has it where no terminal shows headings."""
    optional: Sequence[str] = ()
    """Columns that are left out where the terminal is too narrow for them, the first one first."""
    ruled: bool = False
    """Whether lines are drawn, for cells of several lines."""


def show(out: Console, grid: Grid) -> None:
    """Print a table that fits the terminal; elsewhere lines of cells between tabs, for grep and awk.

    The first of these lines has the names of the columns.
    """
    names = [*grid.left, *grid.right]
    if not out.file.isatty():
        lines = [[grid.about, *names], *([name, *row] for name, _, rows in grid.parts for row in rows if row)]
        for cells in lines:
            print(*("; ".join(cell.split("\n")).replace("\t", " ") for cell in cells), sep="\t", file=out.file)
        return
    kept = _fitting(grid, out.width)
    for index, (_, heading, rows) in enumerate(grid.parts):
        numbers = [name for name in grid.right if name in kept]
        heads = numbers if grid.ruled else [name.replace(" ", "\n") for name in numbers]
        drawn = table(heading, [name for name in grid.left if name in kept], heads)
        if not grid.ruled:
            drawn.box, drawn.pad_edge, drawn.padding = None, False, (0, 2, 0, 0)
        for column, place in zip(drawn.columns, kept.values(), strict=True):
            column.width = place
        for row in rows:
            if row:
                drawn.add_row(*(cell for name, cell in zip(names, row, strict=True) if name in kept))
            else:
                drawn.add_section()
        if index:
            out.print()
        out.print(drawn)
    if dropped := [name for name in names if name not in kept]:
        out.print(f"A wider terminal shows: {', '.join(dropped)}.")


def _fitting(grid: Grid, width: int) -> Mapping[str, int]:
    """The columns that fit with no word broken, without the optional ones that do not, and how wide each is.

    What room there is the first of them have, as far as their cells fill it: Rich would narrow the widest ones alike.
    """
    names = [*grid.left, *grid.right]
    needed, filled = {}, {}
    for index, name in enumerate(names):
        cells = [row[index] for _, _, rows in grid.parts for row in rows if row]
        texts = [cell.split("\n") if name in grid.right else cell.split() for cell in cells]
        head = [name] if grid.ruled and name in grid.right else name.split()
        needed[name] = max(len(word) for words in (head, *texts) for word in (*words, ""))
        filled[name] = max([needed[name], *(len(line) for cell in cells for line in cell.split("\n"))])

    def room() -> int:
        lines = 3 * len(needed) + 1 if grid.ruled else 2 * (len(needed) - 1)
        return width - sum(needed.values()) - lines

    for name in grid.optional:
        if room() < 0:
            del needed[name]
    for name in needed:
        needed[name] += min(max(room(), 0), filled[name] - needed[name])
    return needed


def duration(seconds: float) -> str:
    """Seconds for people: 8.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, noun: str) -> str:
    """So many of a thing, in words: 1 run, 2 runs, 0 trajectories."""
    return f"{number} {noun if number == 1 else noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"
