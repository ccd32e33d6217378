"""A run's description, the Markdown that MLflow shows on its page: what it is, its result, how to make it again."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping
from typing import Any, Final

NOTE: Final = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment."""
_SIGNATURE: Final = re.compile(r"\n\n<!-- fashion-cnn (?P<digest>[0-9a-f]{16}) -->$")
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


def signed(text: str) -> str:
    """A text with a comment that holds its hash, which Markdown does not show: so it is known who wrote it last."""
    return f"{text}\n\n<!-- fashion-cnn {digest(text)} -->"


def is_signed(text: str) -> bool:
    """Whether a text is as `signed` gave it."""
    found = _SIGNATURE.search(text)
    return found is not None and found["digest"] == digest(text[: found.start()])


def digest(text: str) -> str:
    """The first 16 digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
