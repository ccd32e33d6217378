"""The commands for reviewing the results: claims, check, replay, bundle, verify, import, results."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fashion_cnn.cli.actions import (
    DONE,
    FAILED,
    RUN_ID,
    UNDECIDED,
    Commands,
    Project,
    answer,
    completed,
    count,
    open_store,
    write_output,
)
from fashion_cnn.study import AD_HOC, select_studies
from fashion_cnn.terminal import complain, shown

if TYPE_CHECKING:
    from fashion_cnn.review.replay import ReplayOptions

STORE = ("--json", "--tracking-uri")
REPLAY = (
    "Train a recorded run again in a fresh process, from its record alone, and compare the metrics of every epoch "
    "in full precision and the SHA-256 of the weights; nothing is written. TensorFlow promises the same bits only "
    "for the same hardware and software; a portable run gives them, with the same libraries, on every processor with "
    "AVX2 that passes fashion-cnn doctor, a native one on processors of its type. "
    "The answers, the first that holds: INCONSISTENT (status 1): the record contradicts itself. "
    "EXACT (0): every state is the same to the last bit, whatever the environment. "
    "NOT COMPARABLE (3): other bits in another environment or by other code; recorded and replayed results side by "
    "side, and whether the recorded one is where other seeds would lead to expect it. "
    "DIFFERENT (1): other bits in the same environment; where first, by how much, and why where that is known. "
    "Of an arm with --all: EQUIVALENT (3, with --accept equivalent 0): other bits for a known reason, but over at "
    "least 6 seeds the mean test accuracy is the same within 0.005."
)


def add_commands(commands: Commands) -> None:
    """Add claims, check, replay, bundle, verify, import and results."""
    commands.group("review results")
    claims_help = "decide each study's claims over the recorded seeds"
    commands.add("claims", claims_help, _claims, "study", *STORE, example="filter_study")
    check_help = "tell whether a run's record is complete and consistent"
    check = commands.add("check", check_help, _check, *STORE, example="1f0c9a3b")
    check.add_argument("run_id", metavar="RUN_ID", help=RUN_ID)
    _add_replay(commands)
    bundle_help = "pack the complete records of studies into one file for a reviewer"
    bundle = commands.add("bundle", bundle_help, _bundle, "study", *STORE, example="filter_study --output filters.zip")
    bundle.add_argument("--output", metavar="FILE", default="bundle.zip", help="(default: bundle.zip)")
    bundle.add_argument("--published", action="store_true", help="of the published results, not of the store")
    verify_help = "check a bundle: its hashes, whether its records are complete and consistent, its claims"
    verify = commands.add("verify", verify_help, _verify, "--json", example="bundle.zip")
    verify.add_argument("bundle", metavar="BUNDLE", type=Path, help="the file")
    verify.add_argument("--expect", metavar="SHA256", help="of the file, from where the result was published")
    import_help = "bring a bundle's runs into the store, to compare and replay them"
    bring = commands.add("import", import_help, _import, *STORE, example="bundle.zip")
    bring.add_argument("bundle", metavar="BUNDLE", type=Path, help="the file; its runs never count as recorded here")
    bring.add_argument("--expect", metavar="SHA256", help="of the file, from where the result was published")
    _add_results(commands)


def _add_replay(commands: Commands) -> None:
    replay_help = "train a recorded run again, or a whole study, and compare it state by state"
    replay = commands.add("replay", replay_help, _replay, "--workers", "--data-dir", *STORE, example="1f0c9a3b")
    replay.description = REPLAY
    replay.add_argument("run_id", nargs="?", metavar="RUN_ID", help=RUN_ID)
    all_help = f"every run of a study, each trajectory trained once; of {', '.join(commands.studies)}, {AD_HOC}"
    completed(replay.add_argument("--all", metavar="STUDY", help=all_help), [*commands.studies, AD_HOC])
    published_help = "each published training of the lowest seed, of these studies or of all; needs no store"
    published = replay.add_argument("--published", nargs="*", metavar="STUDY", help=published_help)
    completed(published, commands.studies)
    accept_help = "with --all, of whole runs: status 0 also where all arms whose bits differ are EQUIVALENT"
    replay.add_argument("--accept", choices=("equivalent",), help=accept_help)
    replay.add_argument("--epochs", type=count, metavar="K", help="only the first K epochs: a quick check")
    replay.add_argument("--threads", type=count, metavar="N", help="of a training (default: as recorded)")


def _add_results(commands: Commands) -> None:
    results_help = "show what the published results say, check them, or bring them up to date"
    update_help = (
        "merge the store's complete records into experiments/results, and write the tables of README.md and docs/"
    )
    check_help = "compute verdicts and tables again from the published files alone; status 1 where anything differs"
    replace_help = "with --update: also drop published runs of another code, data set or config than the newest"
    results = commands.add("results", results_help, _results, "study", *STORE, example="filter_study")
    which = results.add_mutually_exclusive_group()
    which.add_argument("--update", action="store_true", help=update_help)
    which.add_argument("--check", action="store_true", help=check_help)
    pages_help = "write the tables of README.md and docs/ anew, from the published files and the registered studies"
    which.add_argument("--pages", action="store_true", help=pages_help)
    results.add_argument("--replace", action="store_true", help=replace_help)


def _claims(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.cli import tables
    from fashion_cnn.evidence.images import only_these_images
    from fashion_cnn.reports.stored import recorded

    chosen = select_studies(project.studies, options.study)
    frames = recorded(open_store(options), project.studies)
    decided = frames.verdicts(project.studies, project.post).of(chosen)
    only_these = only_these_images(decided, frames.runs, frames.answers, frames.incomplete)
    tables.show_verdicts(decided, only_these, as_json=options.json)
    return DONE


def _check(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.cli import tables
    from fashion_cnn.evidence.consistency import contradictions
    from fashion_cnn.evidence.record import Record, missing, rules_of
    from fashion_cnn.evidence.together import implausible_together
    from fashion_cnn.review.replay import records_of

    store = open_store(options)
    (record,) = records_of(store, [store.find(options.run_id)])
    others = (Record(row, (), {}) for row in store.runs(project.recorded_studies([])).to_dict("records"))
    together = implausible_together(
        [record, *(other for other in others if other.row["run_id"] != record.row["run_id"])]
    )
    lacks = missing(record, rules_of(record.row))
    against = [*contradictions(record), *together.get(str(record.row["run_id"]), ())]
    status = FAILED if lacks or against else DONE
    return shown(status, lambda: tables.show_check(record, lacks, against, as_json=options.json))


def _replay(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.review.replay import ReplayError

    if [options.run_id, options.all, options.published].count(None) != 2:
        ways = "name one run, or with --all a study, or give --published"
        raise ReplayError(f"{ways}; fashion-cnn list shows the recorded runs")
    if options.accept and options.all is None:
        raise ReplayError("--accept is about the arms of a study: give it with --all STUDY")
    if options.accept and options.epochs is not None:
        raise ReplayError("--accept is about whole runs: leave out --epochs")
    return (_replay_recorded if options.published is None else _replay_published)(project, options)


def _replay_recorded(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.cli import tables
    from fashion_cnn.review.equivalence import equivalences
    from fashion_cnn.review.others import in_store
    from fashion_cnn.review.replay import ReplayError, records_of, replay

    store = open_store(options)
    if options.all is None:
        rows = [store.find(options.run_id)]
    else:
        rows = store.runs(project.recorded_studies([options.all])).to_dict("records")
    result = replay(records_of(store, rows), in_store(store), _replay_options(options))
    if not result.comparisons:
        raise ReplayError(result.left_out[0][1] if result.left_out else f"{options.all} has no recorded runs")
    arms = equivalences(result.comparisons) if options.all and options.epochs is None else []
    accepted = {(arm.study, arm.arm) for arm in arms if arm.holds} if options.accept else set()
    # A run has results only where its bits differ for a known reason: other answers stand whatever its arm's is.
    open_ones = [run for run in result.comparisons if not (run.results and (run.study, run.arm) in accepted)]
    status = _replay_status({run.answer for run in open_ones})
    return shown(status, lambda: tables.show_replay(result, arms, study=options.all, as_json=options.json))


def _replay_published(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.cli import tables
    from fashion_cnn.reports.publish import read
    from fashion_cnn.review.others import among
    from fashion_cnn.review.published import by_trajectory, marked, of_lowest_seed
    from fashion_cnn.review.replay import replay

    studies = select_studies(project.studies, options.published)
    published = marked(read(project.published))
    if not options.published:  # a study that is not published yet is no error unless it was asked for
        there = {str(record.row["study"]) for record in published}
        studies = [study for study in studies if study.name in there] or studies
    result = replay(of_lowest_seed(published, studies), among(published), _replay_options(options))
    trajectories = by_trajectory(result.comparisons)
    status = _replay_status({answer.answer for answer, _ in trajectories})
    status = UNDECIDED if status == DONE and result.left_out else status
    return shown(status, lambda: tables.show_published(trajectories, result.left_out, as_json=options.json))


def _replay_options(options: argparse.Namespace) -> ReplayOptions:
    from fashion_cnn.review.replay import ReplayOptions

    return ReplayOptions(options.epochs, options.threads, options.workers, options.data_dir)


def _replay_status(answers: Collection[str]) -> int:
    """That of the worst answer; none is as good as `EXACT`."""
    known = {"EXACT": DONE, "NOT COMPARABLE": UNDECIDED}
    found = {known.get(answer, FAILED) for answer in answers}
    return next((status for status in (FAILED, UNDECIDED) if status in found), DONE)


def _bundle(project: Project, options: argparse.Namespace) -> int:
    import hashlib

    from fashion_cnn.checkout import REPOSITORY
    from fashion_cnn.reports.publish import published_selections
    from fashion_cnn.reports.stored import selections
    from fashion_cnn.review.cover import reasons_text
    from fashion_cnn.review.pack import make_bundle

    studies = select_studies(project.studies, options.study)
    chosen = (
        published_selections(studies, project.published)
        if options.published
        else selections(open_store(options), studies)
    )
    lock, post = (REPOSITORY / "requirements.lock").read_bytes(), project.post.read_bytes()
    content = make_bundle(chosen, lock=lock, post=post, published=options.published)
    output, sha256 = Path(options.output), hashlib.sha256(content).hexdigest()
    write_output(output, content)
    lines, packed = [], {}
    for selection in chosen:
        name, runs = selection.study.name, len(selection.records)
        lines.append(f"{name}: {runs} runs; left out: {reasons_text(dict(selection.left_out)) or 'none'}")
        lines += [f"  {run_id}: {reason}" for run_id, reason in selection.incomplete.items()]
        left_out, incomplete = dict(selection.left_out), dict(selection.incomplete)
        packed[name] = {"runs": runs, "left_out": left_out, "incomplete": incomplete}
    lines += [
        f"{output}: {len(content) / 2**20:.1f} MiB, SHA-256 {sha256}",
        f"Publish the SHA-256 apart from the file: fashion-cnn verify {output} --expect {sha256}",
    ]
    value = {"file": str(output), "bytes": len(content), "sha256": sha256, "studies": packed}
    answer(options, value, "\n".join(lines))
    return DONE


def _verify(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.checkout import REPOSITORY, ever_had
    from fashion_cnn.review.bundle import LOCK, POST
    from fashion_cnn.review.stated import Here
    from fashion_cnn.review.verify import verify_file
    from fashion_cnn.sources import code_sha256

    own = {POST: partial(ever_had, project.post), LOCK: partial(ever_had, REPOSITORY / "requirements.lock")}
    here = Here(project.studies, code_sha256(), own)
    result = verify_file(options.bundle, expected=options.expect, here=here)
    answer(options, result.as_dict(), f"{options.bundle}: {result}")
    return DONE if result.holds else FAILED


def _import(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.review.carry import Unsound, import_bundle

    try:
        opened = partial(open_store, options, create=True)
        carried = import_bundle(options.bundle, opened, project.studies, options.expect)
    except Unsound as error:
        complain(f"error: {error}")
        return FAILED
    value = {"sha256": carried.verified.sha256, "imported": carried.imported, "there": carried.there}
    lines = [f"{carried.imported} runs imported, marked as recorded elsewhere: they never count as recorded here"]
    lines += [f"{carried.there} were there already"] if carried.there else []
    lines += [*(f"note: {note}" for note in carried.verified.notes), carried.verified.cannot_tell]
    answer(options, value, "\n".join(lines))
    return DONE


def _results(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.checkout import REPOSITORY
    from fashion_cnn.cli import tables
    from fashion_cnn.evidence.images import answers_of, only_these_images
    from fashion_cnn.evidence.tables import frames
    from fashion_cnn.reports.publish import problems, published_studies, read, update, write_pages
    from fashion_cnn.reports.published import ResultsError, unpublished, verdicts_over

    if options.replace and not options.update:
        raise ResultsError("--replace is part of an update: give --update, too")
    if options.study and (options.check or options.update or options.pages):
        raise ResultsError("--check, --update and --pages are about all of the published results: name no study")
    studies, published, post = project.studies, project.published, project.post
    if options.check:
        if wrong := problems(studies, published, post, REPOSITORY):
            answer(options, {"problems": wrong}, "\n".join(wrong))
            return FAILED
        lacking = unpublished(studies, published_studies(published))
        answer(options, {"problems": [], "note": lacking}, f"{published.name}: all of it holds. {lacking}".rstrip(" ."))
        return DONE
    if options.update:
        merged = update(open_store(options), studies, published, post, replace=options.replace)
        write_pages(studies, published, post, REPOSITORY)
        value = {"added": merged.added, "runs": len(merged.records), "dropped": list(merged.dropped)}
        lines = [f"dropped: {line}" for line in merged.dropped]
        lines.append(f"{merged.added} runs added; {len(merged.records)} are published")
        answer(options, value, "\n".join(lines))
        return DONE
    if options.pages:
        changed = write_pages(studies, published, post, REPOSITORY)
        answer(options, {"pages": changed}, "\n".join(f"{page} written" for page in changed) or "no page differs")
        return DONE
    chosen, records = select_studies(studies, options.study), read(published)
    decided = verdicts_over(studies, records, post.read_bytes()).of(chosen)
    only_these = only_these_images(decided, frames(records)[0], answers_of(records))
    tables.show_verdicts(decided, only_these, as_json=options.json)
    if not options.json and (lacking := unpublished(chosen, {record.row["study"] for record in records})):
        print(lacking)
    return DONE
