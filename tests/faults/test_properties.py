"""Whatever is put in, it is taken or refused by an error made for people; nothing hangs or writes elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import sqlite3
import struct
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_cnn.config import FIELDS, ConfigError, RunConfig, hash_of, parse, trajectory_sha256
from fashion_cnn.data import DataError, Dataset, load
from fashion_cnn.environment import VARIABLES, fingerprint, fingerprint_sha256
from fashion_cnn.sources import files_sha256
from fashion_cnn.state import arrays_sha256
from fashion_cnn.store.relocation import relocate
from tests.support.made_up import write_made_up

pytestmark = pytest.mark.fault("any-input")

any_input = settings(max_examples=150)
SHA256 = re.compile(r"[0-9a-f]{64}")

NUMBERS = (
    st.integers()
    | st.integers(10**300, 10**400)
    | st.floats()
    | st.fractions()
    | st.sampled_from([np.int8(5), np.float32(0.25)])
)
ANY_TEXT = st.text(st.characters(), max_size=50)  # with NUL, controls and lone surrogates
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(sorted(FIELDS))
WORDS = st.sampled_from(
    ["dense", "cnn", "valid", "same", "fresh", "frozen", "none", "", "1e400", "-0.0", "nan", "٣", "1_0", "9" * 9999]
)


def config_or_refusal(make: Callable[[], RunConfig]) -> RunConfig | None:
    try:
        return make()
    except ConfigError as error:
        assert str(error)
        return None


@any_input
@given(st.dictionaries(NAMES | ANY_TEXT, JSON | WORDS, max_size=5))
def test_any_mapping_is_a_config_or_refused(values: Mapping[str, Any]) -> None:
    config = config_or_refusal(lambda: RunConfig.from_mapping(values))
    if config is not None:
        assert RunConfig.from_mapping(config.canonical()) == config
        assert RunConfig.from_mapping(json.loads(json.dumps(config.canonical()))).sha256() == config.sha256()


@any_input
@given(NAMES, NUMBERS | WORDS | ANY_TEXT)
def test_any_one_setting_is_taken_or_named(name: str, value: Any) -> None:
    try:
        RunConfig.from_mapping({name: value})
    except ConfigError as error:
        assert name in str(error) or "additional_convolutions" in str(error)


@any_input
@given(NAMES, WORDS | ANY_TEXT | NUMBERS.map(repr))
def test_any_text_is_a_settings_value_or_refused(name: str, text: str) -> None:
    try:
        value = parse(name, text)
    except ConfigError as error:
        assert str(error).startswith(f"{name} is ")
        return
    config = config_or_refusal(lambda: RunConfig.from_mapping({name: value}))
    if config is not None:
        assert parse(name, config.params()[name]) == getattr(config, name)


@any_input
@given(st.lists(st.floats(), max_size=20), st.none() | st.floats(0, 1e9), st.integers(1, 20))
def test_any_losses_cut_a_run_where_its_rule_says_or_not_yet(
    losses: list[float], threshold: float | None, epochs: int
) -> None:
    cut = RunConfig(epochs=epochs, callback_loss=threshold).cut(losses)
    below = [epoch for epoch, loss in enumerate(losses[:epochs], 1) if threshold is not None and loss < threshold]
    assert cut == ((below[0], "callback") if below else (epochs, "epochs") if len(losses) >= epochs else None)


@any_input
@given(st.dictionaries(st.sampled_from(VARIABLES) | ANY_TEXT, ANY_TEXT, max_size=6))
def test_any_environment_has_a_fingerprint_of_allow_listed_variables_only(variables: Mapping[str, str]) -> None:
    values = fingerprint(1, variables=variables)
    assert set(values["variables"]) <= set(VARIABLES)
    digest = fingerprint_sha256(values)
    assert SHA256.fullmatch(digest)
    assert digest == fingerprint_sha256(json.loads(json.dumps(values)))
    others = {name: value for name, value in variables.items() if name in VARIABLES}
    assert digest == fingerprint_sha256(fingerprint(1, variables=dict(sorted(others.items()))))


@any_input
@given(JSON)
def test_any_json_has_one_hash_and_what_is_none_has_no_hash(value: Any) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):
        with pytest.raises((ValueError, TypeError)):
            hash_of(value)
        return
    assert SHA256.fullmatch(hash_of(value)) and hash_of(json.loads(text)) == hash_of(value)


@any_input
@given(
    st.dictionaries(
        ANY_TEXT.filter(lambda name: name.isprintable()), st.text("0123456789abcdef", max_size=64), max_size=5
    )
)
def test_any_files_have_a_hash_that_does_not_depend_on_their_order(files: Mapping[str, str]) -> None:
    assert SHA256.fullmatch(files_sha256(files))
    assert files_sha256(files) == files_sha256(dict(sorted(files.items())))


@any_input
@given(st.integers() | st.floats() | st.text(max_size=5) | st.booleans(), ANY_TEXT)
def test_any_seed_names_a_trajectory_or_is_refused(seed: Any, text: str) -> None:
    try:
        named = trajectory_sha256(RunConfig(), seed, data_sha256=text, code_sha256="", environment_sha256="")
    except ConfigError as error:
        assert str(error).startswith("seed is ")
        return
    assert SHA256.fullmatch(named) and type(seed) is int and 0 <= seed < 2**32


@any_input
@given(
    st.lists(
        st.tuples(
            st.text("abc/_0", max_size=5),
            st.sampled_from(["<f4", ">f4", "<i8", "|u1", "|b1"]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=4,
        unique_by=lambda one: one[0],
    )
)
def test_any_arrays_have_one_hash_whatever_their_layout(specs: list[tuple[str, str, list[int]]]) -> None:
    arrays = {name: np.ones(shape, kind) for name, kind, shape in specs}
    little = {name: np.array(array, array.dtype.newbyteorder("<"), order="F") for name, array in arrays.items()}
    assert SHA256.fullmatch(arrays_sha256(arrays)) and arrays_sha256(little) == arrays_sha256(arrays)


LABELS = "t10k-labels-idx1-ubyte"
BYTES = st.binary(max_size=300)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = write_made_up(tmp_path_factory.mktemp("source"), train=10, test=29)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def taken(files: Mapping[str, bytes]) -> Dataset | str:
    """What comes of loading these files: a data set, or the refusal; nothing is written."""
    with tempfile.TemporaryDirectory() as around:
        folder = Path(around, "data")
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        try:
            return load(folder)
        except DataError as error:
            assert str(folder) in str(error) and "\n" not in str(error)
            return str(error)
        finally:
            assert {path.name for path in Path(around).rglob("*")} == {"data", *files}
            assert {name: (folder / name).read_bytes() for name in files} == files


@any_input
@given(content=BYTES | BYTES.map(gzip.compress))
def test_any_bytes_in_place_of_a_file_are_refused(source: dict[str, bytes], content: bytes) -> None:
    said = taken({**source, f"{LABELS}.gz": content})
    assert isinstance(said, str) and f"{LABELS}.gz" in said


@any_input
@given(magic=st.integers(0, 2**32 - 1), count=st.integers(0, 2**32 - 1), labels=st.binary(max_size=60))
def test_any_header_that_is_not_the_sets_is_refused(
    source: dict[str, bytes], magic: int, count: int, labels: bytes
) -> None:
    content = struct.pack(">2I", magic, count) + labels
    said = taken({**source, f"{LABELS}.gz": gzip.compress(content)})
    assert isinstance(said, Dataset) == (content == gzip.decompress(source[f"{LABELS}.gz"]))


@any_input
@given(at=st.integers(0), value=st.integers(1, 255), kept=st.none() | st.integers(0))
def test_a_file_with_any_one_byte_changed_or_cut_anywhere_is_refused_or_the_same(
    source: dict[str, bytes], at: int, value: int, kept: int | None
) -> None:
    raw = bytearray(source[f"{LABELS}.gz"])
    if kept is None:
        raw[at % len(raw)] ^= value
    else:
        del raw[kept % len(raw) :]
    said = taken({**source, f"{LABELS}.gz": bytes(raw)})
    if not isinstance(said, str):  # the gzip header holds a date and the like
        assert kept is None and at % len(raw) < 10
        assert hashlib.sha256(gzip.decompress(bytes(raw))).hexdigest() == said.file_sha256[LABELS]


@any_input
@given(label=JSON | st.fixed_dictionaries({"name": JSON, "files": JSON, "train": JSON, "test": JSON}))
def test_any_label_of_a_made_up_set_is_refused_or_the_same(source: dict[str, bytes], label: Any) -> None:
    text = json.dumps(label, default=str)
    said = taken({**source, "MADE_UP.json": text.encode()})
    assert isinstance(said, str) and "MADE_UP.json" in said


FOLDERS = st.sampled_from(["..", ".", "", "a b", "../../x", "%2e%2e", "ünï", "two\nlines", "1"]) | st.text(max_size=9)
PLACES = st.tuples(
    FOLDERS, FOLDERS | st.sampled_from(["file://[x", "http://[", "s3://b/artifacts/a b"])
) | FOLDERS.flatmap(
    lambda name: st.tuples(
        st.just(name), st.sampled_from([f"file:///gone/artifacts/{name}", f"file:///gone/artifacts/{quote(name)}"])
    )
)


TABLES = {
    **{"runs": "artifact_uri", "logged_models": "artifact_location"},
    **{"model_versions": "source TEXT, storage_location", "trace_tags": "key TEXT, value"},
    **{"experiment_tags": "key TEXT, value"},
}


@any_input
@given(st.lists(PLACES, max_size=3))
def test_any_place_in_a_database_is_left_or_put_beside_it(found: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database, artifacts = Path(folder, "mlflow.db"), Path(folder, "artifacts")
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            for table, columns in TABLES.items():
                connection.execute(f"CREATE TABLE {table} (experiment_id INTEGER, {columns} TEXT)")
            connection.execute("CREATE TABLE experiments (experiment_id INTEGER, name TEXT, artifact_location TEXT)")
            rows = [(number, *one) for number, one in enumerate(found)]
            connection.executemany("INSERT INTO experiments VALUES (?, ?, ?)", rows)
            lines = relocate(database, artifacts)
            after = connection.execute("SELECT * FROM experiments ORDER BY experiment_id").fetchall()
        for before, now in zip(rows, after, strict=True):
            beside = now[2].startswith(f"{artifacts.as_uri()}/") and not now[2].endswith("/..")
            assert now == before or (beside and before[2].startswith("file:///gone/artifacts/"))
        assert relocate(database, artifacts) == [] == [line for line in lines if "\n" in line]
        assert sorted(path.name for path in Path(folder).iterdir()) == ["mlflow.db"]


def test_these_properties_can_fail() -> None:
    """The strategies reach what is taken and what is refused."""
    assert config_or_refusal(lambda: RunConfig.from_mapping({"filters": Fraction(1, 2)})) is None
    assert config_or_refusal(lambda: RunConfig.from_mapping({"learning_rate": Fraction(1, 2)})) is not None
    assert math.isinf(float("1e400"))
