"""The console script `fashion-cnn`, also `python -m experiments`: hands the studies to the command line."""

from __future__ import annotations

from experiments import POST_RESULTS, RESULTS, STUDIES
from fashion_cnn.cli import console


def run() -> None:
    """Run the command line and exit with its status."""
    raise SystemExit(console(STUDIES, POST_RESULTS, RESULTS))


if __name__ == "__main__":
    run()
