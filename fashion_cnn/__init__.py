"""Dense and small convolutional networks on Fashion-MNIST, recorded so that any run can be replayed.

What people import stands in `__all__`, each name loaded when it is first asked for: importing the package imports
neither TensorFlow nor MLflow. docs/python.md shows how they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fashion_cnn.builder import ModelBuilder
    from fashion_cnn.callbacks import StopAtLoss
    from fashion_cnn.plain import Record
    from fashion_cnn.reading import load_epochs, load_network, load_runs
    from fashion_cnn.timing import Timer

__all__ = ["ModelBuilder", "Record", "StopAtLoss", "Timer", "load_epochs", "load_network", "load_runs"]

# `builder` chooses TensorFlow's kernels before it imports Keras: so the callback comes from there, too.
_HOMES = {
    **dict.fromkeys(("ModelBuilder", "StopAtLoss"), "builder"),
    "Record": "plain",
    "Timer": "timing",
    **dict.fromkeys(("load_epochs", "load_network", "load_runs"), "reading"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
