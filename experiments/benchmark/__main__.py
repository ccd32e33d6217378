"""`python -m experiments.benchmark`."""

from __future__ import annotations

import sys

from experiments.benchmark.sides import main

if __name__ == "__main__":
    sys.exit(main())
