"""A run's description, as Markdown for MLflow."""

from __future__ import annotations

import html
import re

from fashion_cnn.store.entries import RunEntry
from fashion_cnn.store.epochs import EpochLine


def description(run: RunEntry, last: EpochLine | None) -> str:
    """The question, what came of the run by its last epoch (None while it runs), and the command that reruns it."""
    result = (
        "still running"
        if last is None
        else (
            f"after {last.epoch} epochs: test accuracy {last.metrics['test_accuracy']:.4f}, "
            f"test loss {last.metrics['test_loss']:.4f}"
        )
    )
    paragraphs = (
        run.question,
        f"Arm **{_plain(run.arm)}**, seed {run.seed}: {result}.",
        f"Again: {_code(run.command)}",
    )
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]!#~|])", r"\\\1", html.escape(text, quote=False))


def _code(text: str) -> str:
    """A span of code in Markdown, whatever it holds."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, gap = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{gap}{text}{gap}{fence}"
