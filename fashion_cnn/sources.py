"""The modules that decide numbers, and the hash that names what they say.

Every line that a recorded number passes through is in one of them, from the data files to the evaluation, and they
import nothing else of the project. The hash is of the syntax tree without what cannot change a number: comments,
docstrings, annotations, help texts, the words of an error. It is the same on Python 3.11 to 3.13.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = Path(__file__).resolve().parent
NUMBER_MODULES: Final = ("config", "data", "evaluation", "models", "sample", "state", "step", "training")
_SILENT: Final = frozenset({"annotation", "returns", "type_comment", "type_params", "ctx", "kind"})
"""Fields of a syntax tree that change no number, or that some versions of Python do not have."""


def code_sha256(package: Path | None = None) -> str:
    """Hex SHA-256 over the modules that decide numbers; see `code_files` and `files_sha256`."""
    return files_sha256(code_files(package))


def code_files(package: Path | None = None) -> dict[str, str]:
    """The hex SHA-256 of what each module that decides numbers says, by file name.

    Args:
        package: the folder to read them from. By default a module that this process has imported is read from where
            it was imported, the others from this package: so a worker tells what it runs.
    """
    return {f"{name}.py": canonical_sha256(_path(name, package).read_bytes()) for name in NUMBER_MODULES}


def _path(name: str, package: Path | None) -> Path:
    imported = getattr(sys.modules.get(f"fashion_cnn.{name}"), "__file__", None) if package is None else None
    return Path(imported) if imported else (package or PACKAGE) / f"{name}.py"


def files_sha256(files: Mapping[str, Any]) -> str:
    """Hex SHA-256 of some files' names and hashes.

    Of the lines "sha256  name", one a file in sorted order: what `sha256sum` prints of them, hashed once more.
    """
    lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@lru_cache(maxsize=32)  # a process asks it of the same few modules again and again
def canonical_sha256(source: str | bytes) -> str:
    """Hex SHA-256 of what a module says, whatever its comments, docstrings, annotations, help and error texts.

    Args:
        source: as a file has it: bytes may be of any encoding that they declare, with lines that end in any way.

    Raises:
        SyntaxError: it is no Python of this version.
    """
    return hashlib.sha256(" ".join(_tokens(ast.parse(source))).encode()).hexdigest()


def _tokens(node: Any) -> Iterator[str]:
    """The part of a syntax tree that can change a number, as a flat text."""
    if isinstance(node, ast.Constant):
        yield f"{type(node.value).__name__}:{node.value!r}"
        return
    if not isinstance(node, ast.AST):
        yield repr(node)
        return
    if isinstance(node, ast.Raise):  # which error it is, not its words
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        yield "(Raise"
        yield from _tokens(error)
        yield ")"
        return
    yield f"({type(node).__name__}"
    for name, value in ast.iter_fields(node):
        if name in _SILENT or value is None:
            continue
        parts = [part for part in value if not _is_comment(part)] if isinstance(value, list) else [value]
        if parts:
            yield f"{name}="
            for part in parts:
                yield from _tokens(part)
    yield ")"


def _is_comment(node: Any) -> bool:
    """Whether a part of a list says nothing about numbers: a docstring, imports for types, a help text."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.keyword) and node.arg == "help"
