"""A bundle's README.txt: what is here, how to check it; and the facts in it, which the records give again. Pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from fashion_cnn.evidence.record import BASIS, Record
from fashion_cnn.review import bundle

LeftOut = Mapping[str, Mapping[str, int]]
"""How many recorded runs of each study are not in a bundle, by study and reason."""


def reasons_text(left_out: Mapping[str, int]) -> str:
    """How many runs were left out for which reason, in words."""
    return ", ".join(f"{reason} ({count})" for reason, count in left_out.items())


def readme(left_out: LeftOut, records: Sequence[Record], *, published: bool = False) -> str:
    """The whole text; `published`: the records are of published results."""
    origin, absent = (_OF_PUBLISHED, "Models are too large.") if published else ("", _ABSENT)
    return _README.format(facts=facts(left_out, records), origin=origin, absent=absent)


def facts(left_out: LeftOut, records: Sequence[Record]) -> str:
    """The part of it that says how many runs there are, of which commits, data, code and environment."""
    rows = [record.row for record in records]
    runs = Counter(str(row["study"]) for row in rows)
    counts = [
        f"  {study}: {runs[study]} runs; not here: {reasons_text(reasons) or 'none'}"
        for study, reasons in left_out.items()
    ]
    commits = {f"  {row['git_commit']}{' (changed)' if row['git_dirty'] == 'true' else ''}" for row in rows}
    remotes = {remote for record in records if (remote := bundle.remote_of(record))}
    bases = {f"  {what}: {row[name]}": None for name, what in BASIS.items() for row in rows}
    return "\n".join(
        (
            "Runs",
            *counts,
            "Made with these commits" + (f" of {', '.join(sorted(remotes))}" if remotes else ""),
            *sorted(commits),
            "SHA-256 of data set, code and environment",
            *bases,
        )
    )


_OF_PUBLISHED: Final = "\nThey are published results: of each run what experiments/results holds of it.\n"
_ABSENT: Final = "Models, activations and drawn feature maps are too large; hashes.json of a run has their SHA-256."
_README: Final = textwrap.dedent("""\
    fashion-cnn: a bundle of recorded runs, for a reviewer

    {facts}
    {origin}
    What is here
      studies.json               what was asked, the arms (configs), and what was claimed of them
      runs.csv, epochs.csv       a row a run, a row an epoch; every number in full precision
      records/<run id>/          what a run recorded of itself: config, environment, packages, metrics and the
                                 SHA-256 of the weights after every epoch, the test images by class, what the network
                                 answered to each of them
      claims.json                the verdicts; post_results.csv: the numbers that the post printed
      figures/, report.html      the same, to look at; the page needs no network
      left_out.json              recorded runs that are not here, and why
      requirements.lock          every package pinned
      ro-crate-metadata.json     all of it, described for other programs (RO-Crate, Process Run Crate)
      manifest.json              the SHA-256 and size of every other file
    {absent} The data set, Fashion-MNIST, is not here either; its hashes are in ro-crate-metadata.json.

    How to check it
      In a clone of the repository; Python 3.11 or later with numpy, pandas and scipy is enough:
        python -m experiments verify THIS_FILE --expect SHA256
      It compares every hash, looks at each record for what is missing or contradictory, and computes the claims again.
      SHA256 is that of the whole file. Take it from where the result was published, not from whoever hands you the
      file: somebody who rewrites everything in here can rewrite the hashes in here, too.

    How to compare and replay its runs
      make setup, then .venv/bin/fashion-cnn import THIS_FILE, .venv/bin/fashion-cnn replay RUN_ID, and make ui.

    How to make a run again
      make setup, then the command in the run's description in ro-crate-metadata.json. With the same libraries
      (environment.json) a portable run ends with the same weights_sha256 on any x86-64 processor with AVX2 and FMA, a
      native one on a processor of its type; both pass through those in trajectory.json.
    """)
