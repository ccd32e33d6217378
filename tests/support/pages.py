"""Made-up runs as frames, and a page taken apart as a browser would."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pandas as pd

from fashion_cnn.claims import Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.evidence.verdicts import Verdicts, verdicts
from fashion_cnn.reports.page import (
    StudyView,
)
from fashion_cnn.study import Study

if TYPE_CHECKING:
    pass

STUDY = Study(
    "made_up_study",
    "Is it made up?",
    {"one": CNN, "two": replace(CNN, filters=16), "flat": DENSE},
    claims=(
        Higher("test_accuracy", "one", than="two", says="One is better", note="It says so twice."),
        Lower("test_loss", "one", than="two", says="One is better"),
        Equivalent("test_accuracy", "two", "flat", within=0.005, says="Two is flat", source="ours"),
        Stops("one", before=20, says="One stops"),
        NotTested("More data is needed", why="There is no more."),
    ),
)
EVIL = '<b onclick="x(\'">& evil</b>'
HASHES = ("config_sha256", "weights_sha256", "data_sha256", "code_sha256", "environment_sha256")
VOID = {"meta", "link", "img", "br", "hr", "input"}
MADE_AT = "2026-11-22 12:00 UTC"
_count = itertools.count()


def run(arm: str = "one", seed: int = 0, accuracy: float = 0.9, loss: float = 0.3, **changes: Any) -> dict[str, Any]:
    """A finished run as a row of `Store.runs`, newer than those made before it."""
    now = next(_count)
    config = STUDY.arms.get(arm, CNN)
    return {
        **{"run_id": f"{now:032x}", "name": f"{arm} · seed {seed}", "status": "FINISHED", "start_time": now * 60_000},
        **{"study": STUDY.name, "arm": arm, "seed": str(seed), "smoke": "false", "reuse": "on", "node": "here"},
        **{name: name[0] * 64 for name in HASHES},
        **{"config_sha256": config.sha256(), "git_commit": "0123456789abcdef" * 2, "git_dirty": "false"},
        **{"stop_reason": "epochs", "test_accuracy": accuracy, "test_loss": loss, "accuracy": 0.95, "loss": 0.15},
        **{"epochs_trained": 10.0, "fit_seconds": 100.0, "fit_cpu_seconds": 90.0},
        **changes,
    }


def frame(*runs: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(runs), columns=list(run()))


def epochs_of(runs: pd.DataFrame, last: int = 3) -> pd.DataFrame:
    rows = [
        {"run_id": run_id, "epoch": epoch, "loss": 1 / epoch, "accuracy": 0.8, "test_loss": 0.4, "test_accuracy": 0.8,
         "epoch_cpu_seconds": 9.0}
        for run_id in runs["run_id"]
        for epoch in range(1, last + 1)
    ]  # fmt: skip
    columns = ["run_id", "epoch", "loss", "accuracy", "test_loss", "test_accuracy", "epoch_cpu_seconds"]
    return pd.DataFrame(rows, columns=columns)


def records(*runs: dict[str, Any], study: Study = STUDY, **others: Any) -> StudyView:
    return StudyView(study, frame(*runs), epochs_of(frame(*runs)), **others)


def text_of(html: str) -> str:
    """What a reader sees, in plain quotes and dashes."""
    plain = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{EN DASH}": "-"})
    return " ".join(Page(html).text.split()).translate(plain)


def post(**columns: Any) -> pd.DataFrame:
    made = {"study": STUDY.name, "arm": "one", "epoch": [1, 2], "epoch_seconds": [14, 17], "loss": [0.5, 0.25]}
    made |= {"accuracy": [0.8, 0.9], "test_loss": [math.nan, 0.35], "test_accuracy": [math.nan, 0.88]}
    return pd.DataFrame(made | columns)


def said(*studies: StudyView, printed: pd.DataFrame | None = None) -> Verdicts:
    runs, epochs = (pd.concat([getattr(one, name) for one in studies]) for name in ("runs", "epochs"))
    return verdicts([one.study for one in studies], runs, epochs, post() if printed is None else printed)


class Page(HTMLParser):
    """What a browser would find, and whatever is not well-formed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.text = ""
        self.wrong: list[str] = []
        self.feed(html)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.wrong += [
            f"{tag} has {name} twice" for name in {one for one, _ in attrs if [n for n, _ in attrs].count(one) > 1}
        ]
        self.tags.append((tag, {name: value or "" for name, value in attrs}, tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "svg" not in self.open:
            self.wrong.append(f"<{tag}/> outside of SVG")
        self.tags.append((tag, {name: value or "" for name, value in attrs}, tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self.open[-1:]} at {self.getpos()}")
        else:
            self.open.pop()
        self.text += " " * (tag in ("td", "th", "p", "li"))

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes, _ in self.tags if tag in names]
