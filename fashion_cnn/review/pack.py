"""Records in, a bundle out: the bytes of one zip. The same records give the same bytes; dates come from them.

Nothing of a store, a clock or the environment can reach a bundle: what it holds of a record is named in
`evidence.tables.COLUMNS` and `evidence.record.LIGHT`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from fashion_cnn.evidence.record import BASIS, Record
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.evidence.tables import frames, to_json
from fashion_cnn.evidence.verdicts import claims_values, verdicts_of
from fashion_cnn.reports import page
from fashion_cnn.review import archive, bundle
from fashion_cnn.review.bundle import (
    CLAIMS,
    CRATE,
    LEFT_OUT,
    LOCK,
    MANIFEST,
    POST,
    README,
    REPORT,
    STUDIES,
    BundleError,
)


def make_bundle(selections: Sequence[Selection], *, lock: bytes, post: bytes) -> bytes:
    """The bundle of some studies' records, in order; `post` are the post's printed numbers, CSV.

    A study without a record is named in `left_out.json` only.

    Raises:
        BundleError: not one of the studies has a record.
        ArchiveError: more than a bundle can hold.
    """
    records = [record for selection in selections for record in selection.records]
    if not records:
        left_out = "; ".join(f"{each.study.name}: {reasons_text(each.left_out) or 'no runs'}" for each in selections)
        raise BundleError(f"there is no complete record to bundle ({left_out}); fashion-cnn check RUN_ID tells more")
    studies = [selection.study for selection in selections if selection.records]
    runs, epochs = frames(records)
    verdicts = verdicts_of(studies, runs, epochs, post)
    views = [page.StudyView.of(study, runs, epochs) for study in studies]
    newest = max(int(record.row["end_time"]) for record in records)
    made_at = f"from the records of a bundle, the newest of {page.moment(newest)} UTC"
    figures: dict[str, bytes] = {}
    for view in views:
        figures |= {f"figures/{view.study.name}/{name}": each for name, each in page.study_figures(view).items()}
    files = {
        **bundle.record_files(records),
        STUDIES: to_json({study.name: bundle.study_values(study) for study in studies}),
        CLAIMS: to_json(claims_values(verdicts)),
        LEFT_OUT: to_json({selection.study.name: dict(selection.left_out) for selection in selections}),
        LOCK: lock,
        POST: post,
        README: _readme(selections, records).encode(),
        REPORT: page.render_report(views, verdicts=verdicts, made_at=made_at).encode(),
        **figures,
    }
    files[CRATE] = to_json(bundle.describe(files, studies, records))
    files[MANIFEST] = bundle.to_manifest(files)
    return archive.pack(files, newest)


def reasons_text(left_out: Sequence[tuple[str, int]]) -> str:
    """How many runs were left out for which reason, in words."""
    return ", ".join(f"{reason} ({count})" for reason, count in left_out)


def _readme(selections: Sequence[Selection], records: Sequence[Record]) -> str:
    rows = [record.row for record in records]
    counts = [
        f"  {each.study.name}: {len(each.records)} runs; not here: {reasons_text(each.left_out) or 'none'}"
        for each in selections
    ]
    commits = {f"  {row['git_commit']}{' (changed)' if row['git_dirty'] == 'true' else ''}" for row in rows}
    remotes = {remote for record in records if (remote := bundle.remote_of(record))}
    bases = {f"  {what}: {row[name]}": None for name, what in BASIS.items() for row in rows}
    return _README.format(
        counts="\n".join(counts),
        commits="\n".join(sorted(commits)),
        remotes=f" of {', '.join(sorted(remotes))}" if remotes else "",
        bases="\n".join(bases),
    )


_README: Final = textwrap.dedent("""\
    fashion-cnn: a bundle of recorded runs, for a reviewer

    Runs
    {counts}
    Made with these commits{remotes}
    {commits}
    SHA-256 of data set, code and environment
    {bases}

    What is here
      studies.json               what was asked, the arms (configs), and what was claimed of them
      runs.csv, epochs.csv       a row a run, a row an epoch; every number in full precision
      records/<run id>/          what a run recorded of itself: config, environment, packages, metrics and the
                                 SHA-256 of the weights after every epoch, the test images by class
      claims.json                the verdicts; post_results.csv: the numbers that the post printed
      figures/, report.html      the same, to look at; the page needs no network
      left_out.json              recorded runs that are not here, and why
      requirements.lock          every package pinned
      ro-crate-metadata.json     all of it, described for other programs (RO-Crate, Process Run Crate)
      manifest.json              the SHA-256 and size of every other file
    Models, activations and drawn feature maps are too large; hashes.json of a run has their SHA-256. The data set,
    Fashion-MNIST, is not here either; its hashes are in ro-crate-metadata.json.

    How to check it
      In a clone of the repository; Python 3.11 or later with numpy, pandas and scipy is enough:
        python -m experiments verify THIS_FILE --expect SHA256
      It compares every hash, looks at each record for what is missing or contradictory, and computes the claims again.
      SHA256 is that of the whole file. Take it from where the result was published, not from whoever hands you the
      file: somebody who rewrites everything in here can rewrite the hashes in here, too.

    How to make a run again
      make setup, then the command in the run's description in ro-crate-metadata.json. On the same processor and
      libraries (environment.json) it ends with the same weights_sha256, and passes through those in trajectory.json.
    """)
