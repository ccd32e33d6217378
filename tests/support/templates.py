"""One template for all calls of the command line in this process: importing TensorFlow takes longer than most tests."""

from __future__ import annotations

import atexit
import os
import resource
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fashion_cnn.running.template import Forked, Template

KEPT = 2  # at a time; each takes memory
NOT_OF_WORKERS = (  # how variables begin that a job replaces, or that mean nothing to a worker
    *("FASHION_CNN_CALL", "FASHION_CNN_TRAJECTORIES", "FASHION_MNIST_DIR", "MLFLOW_"),
    *("PYTEST_CURRENT_TEST", "NO_PROXY", "no_proxy", "RAY_"),
)


@dataclass(frozen=True)
class SharedTemplate:
    """A template as an executor sees it that is not the last to need it."""

    template: Template

    def fork(self, connection: int, output: int) -> Forked:
        return self.template.fork(connection, output)

    def stop(self) -> None:
        """Leave it to others."""


_kept: dict[Any, SharedTemplate] = {}
_uses: Counter[Any] = Counter()


def shared_template(variables: Mapping[str, str]) -> SharedTemplate:
    """The template of these variables, of this user and under these limits."""
    own = {name: value for name, value in variables.items() if not name.startswith(NOT_OF_WORKERS)}
    limits = [resource.getrlimit(limit) for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
    key = (frozenset(own.items()), os.geteuid(), os.getcwd(), *limits)
    _uses[key] += 1
    if key not in _kept:
        while len(_kept) >= KEPT:  # whose variables are one test's own goes, and not the one that all others use
            _kept.pop(min(_kept, key=_uses.__getitem__)).template.stop()
        _kept[key] = SharedTemplate(Template(own))
    return _kept[key]


@atexit.register
def _stop() -> None:
    for shared in _kept.values():
        shared.template.stop()
