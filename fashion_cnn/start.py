"""Run a module of this very package: `python -P start.py MODULE ARGUMENT...`, as `python -m MODULE ARGUMENT...` would.

`-m` takes whatever is first in the search for modules: another clone, or a file `queue.py` that lies in the folder of
the package or in one of PYTHONPATH. Here the package is the one that this file belongs to.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


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
    own_modules_first()
    spec = spec_from_file_location(PACKAGE.name, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)])
    assert spec is not None and spec.loader is not None
    package = sys.modules[PACKAGE.name] = module_from_spec(spec)
    spec.loader.exec_module(package)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
