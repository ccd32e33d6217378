"""A run's description, the Markdown that MLflow shows on its page: what it is, its result, how to make it again."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final

NOTE: Final = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment."""
RUNNING: Final = "still running"


def described(question: str, arm: str, seed: object, result: str, command: str, *more: str) -> str:
    """A run's description in Markdown; `result` is in words, `command` makes the run again."""
    said = (question, f"Arm **{literal(arm)}**, seed {seed}: {result}.", f"Again: {code(command)}", *more)
    return "\n\n".join(paragraph for paragraph in said if paragraph)


def outcome(epoch: int, metrics: Mapping[str, Any]) -> str:
    """The result of a run that ended after an epoch, of its `test_accuracy` and `test_loss`."""
    accuracy, loss = float(metrics["test_accuracy"]), float(metrics["test_loss"])
    return f"after {epoch} epochs: test accuracy {accuracy:.4f}, test loss {loss:.4f}"


def literal(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]!#~|])", r"\\\1", html.escape(text, quote=False))


def code(text: str) -> str:
    """A span of code, whatever the text holds."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, gap = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{gap}{text}{gap}{fence}"
