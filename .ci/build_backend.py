"""The build backend: setuptools', for an editable installation only.

The studies, the published results, the store and the commit that each record names are the checkout's. A wheel would
have none of them, so it is refused before pip downloads anything.
"""

from __future__ import annotations

from typing import NoReturn

from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
)

__all__ = ["build_editable", "get_requires_for_build_editable", "prepare_metadata_for_build_editable"]


def _refuse(*_: object, **__: object) -> NoReturn:
    """Say how it is installed."""
    raise SystemExit(
        "error: fashion-cnn runs from its checkout, whose studies, results and commits a wheel lacks; "
        "in the checkout, make setup installs it, or: pip install -r requirements.lock, then "
        "pip install --no-deps --no-build-isolation -e ."
    )


get_requires_for_build_wheel = prepare_metadata_for_build_wheel = build_wheel = _refuse
get_requires_for_build_sdist = build_sdist = _refuse
