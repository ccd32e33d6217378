"""Run a module of this very package: `python -P start.py MODULE ARGUMENT...`, as `python -m MODULE ARGUMENT...` would.

`-m` takes whatever is first in the search for modules: another clone, or a file `queue.py` that lies in the folder of
the package or in one of PYTHONPATH. Here the package is the one that this file belongs to.
"""

from __future__ import annotations

import gc
import os
import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def collect_rarely() -> None:
    """Look for garbage in cycles seldom: by Python's own thresholds it takes a sixth of importing TensorFlow.

    Nearly all that is allocated then stays, so there is next to nothing to find.
    """
    gc.set_threshold(100_000, 50, 100)


def own_modules_first() -> None:
    """Have what the current folder and PYTHONPATH add come last: no file there stands for another module."""
    try:
        here = os.getcwd()
    except OSError:  # it was removed while runs are made
        here = os.devnull

    def whole(folder: str) -> str:
        return os.path.normpath(os.path.join(here, folder))

    added = {whole(folder) for folder in ("", *os.environ.get("PYTHONPATH", "").split(os.pathsep))}
    sys.path.sort(key=lambda folder: whole(folder) in added)


def main() -> None:
    """Run the module that the first argument names."""
    collect_rarely()
    # Keras imports these where they are installed, for data, pictures, wrappers and a file editor that nothing here
    # uses: over a third of importing it and TensorFlow.
    for unused in ("pandas", "matplotlib.pyplot", "sklearn", "IPython"):
        sys.modules[unused] = None  # type: ignore[assignment]
    own_modules_first()
    spec = spec_from_file_location(PACKAGE.name, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)])
    assert spec is not None and spec.loader is not None
    package = sys.modules[PACKAGE.name] = module_from_spec(spec)
    spec.loader.exec_module(package)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
