"""Records in, a bundle out: the bytes of one zip. The same records give the same bytes; dates come from them.

Nothing of a store, a clock or the environment can reach a bundle: what it holds of a record is named in
`evidence.tables.COLUMNS` and `evidence.record.LIGHT`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fashion_cnn.evidence.images import answers_of
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.evidence.tables import frames, to_json
from fashion_cnn.evidence.verdicts import claims_values, verdicts_of
from fashion_cnn.reports import page
from fashion_cnn.review import archive, bundle, cover
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
from fashion_cnn.review.cover import reasons_text


def make_bundle(selections: Sequence[Selection], *, lock: bytes, post: bytes, published: bool = False) -> bytes:
    """The bundle of some studies' records, in order; `post` are the post's printed numbers, CSV.

    A study without a record is named in `left_out.json` only. `published`: the records are of published results.

    Raises:
        BundleError: not one of the studies has a record.
        ArchiveError: more than a bundle can hold.
    """
    records = [record for selection in selections for record in selection.records]
    if not records:
        why = "; ".join(f"{each.study.name}: {reasons_text(dict(each.left_out)) or 'no runs'}" for each in selections)
        raise BundleError(f"there is no complete record to bundle ({why}); fashion-cnn check RUN_ID tells more")
    studies = [selection.study for selection in selections if selection.records]
    left_out = {selection.study.name: dict(selection.left_out) for selection in selections}
    runs, epochs = frames(records)
    verdicts = verdicts_of(studies, runs, epochs, post)
    answers = answers_of(records)
    views = [page.StudyView.of(study, runs, epochs, answers) for study in studies]
    newest = max(int(record.row["end_time"]) for record in records)
    made_at = f"from the records of a bundle, the newest of {page.moment(newest)} UTC"
    figures: dict[str, bytes] = {}
    for view in views:
        drawn = page.study_figures(view, verdicts)
        figures |= {f"figures/{view.study.name}/{name}": each for name, each in drawn.items()}
    files = {
        **bundle.record_files(records),
        STUDIES: to_json({study.name: bundle.study_values(study) for study in studies}),
        CLAIMS: to_json(claims_values(verdicts)),
        LEFT_OUT: to_json(left_out),
        LOCK: lock,
        POST: post,
        README: cover.readme(left_out, records, published=published).encode(),
        REPORT: page.render_report(views, verdicts=verdicts, made_at=made_at).encode(),
        **figures,
    }
    files[CRATE] = to_json(bundle.describe(files, studies, records))
    files[MANIFEST] = bundle.to_manifest(files, published=published)
    return archive.pack(files, newest)
