"""The project's documents as a reader takes them: headings, shell lines, the tree of files."""

from __future__ import annotations

import re

GENERATED = re.compile(r"<!-- \[\[\[cog .*?\]\]\] -->\n(.*?)<!-- \[\[\[end\]\]\] -->", re.DOTALL)
"""A part between cog's marks."""


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_lines(text: str) -> list[str]:
    """The lines of a page's shell blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line.partition("#")[0] for block in blocks for line in block.splitlines()]


def tree_of(page: str) -> dict[str, str]:
    """The files and folders of a page's tree: path and what it owns.

    Two spaces an indentation; on a line one or more names, each a folder where it ends in a slash, then two spaces or
    more, then what they own. A folder's lines below it are indented.
    """
    (block,) = re.findall(r"^## The tree\n.*?^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    owned: dict[str, str] = {}
    above: list[str] = []
    for line in block.splitlines():
        parts = re.fullmatch(r"( *)(\S+(?: \S+)*) {2,}(.*)", line)
        assert parts is not None, f"not a line of the tree: {line!r}"
        indented, names, owns = parts.groups()
        depth = len(indented) // 2
        for name in names.split():
            owned["".join([*above[:depth], name]).rstrip("/")] = owns
        above[depth:] = [names]
    return owned
