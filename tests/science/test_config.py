"""RunConfig: its defaults, what it refuses, its forms and hashes, and where a stopping rule ends a run."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_cnn.config import (
    CNN,
    CNN_ONLY,
    DENSE,
    FIELDS,
    ConfigError,
    Cut,
    RunConfig,
    allowed,
    check_seed,
    feature_map_sizes,
    hash_of,
    nearest,
    parse,
    trajectory_sha256,
)

HASHES = {"data_sha256": "d", "code_sha256": "c", "environment_sha256": "e"}
DEPTHS = st.one_of(
    st.tuples(st.just("valid"), st.integers(0, 2)),
    st.tuples(st.just("same"), st.integers(0, 3)),
)


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    """Any valid config."""
    rest: dict[str, Any] = {
        "dense_units": draw(st.integers(1, 65536)),
        "epochs": draw(st.integers(1, 10_000)),
        "callback_loss": draw(st.none() | st.floats(0, allow_infinity=False)),
        "batch_size": draw(st.integers(1, 60_000)),
        "learning_rate": draw(st.floats(1e-12, 1e3)),
        "order": draw(st.sampled_from(["fresh", "frozen"])),
        "threads": draw(st.integers(1, 1024)),
        "training_images": draw(st.integers(1, 60_000)),
        "augmentation": draw(st.sampled_from(["none", "mirror"])),
        "split": draw(st.sampled_from(["given", "drawn"])),
    }
    for name in sorted(FIELDS.keys() - rest.keys() - {"model", *CNN_ONLY}):
        rest[name] = draw(st.sampled_from([FIELDS[name].default, another(name)]))
    if draw(st.booleans()):
        return RunConfig(model="dense", **rest)
    padding, depth = draw(DEPTHS)
    return RunConfig(filters=draw(st.integers(1, 1024)), padding=padding, additional_convolutions=depth, **rest)


def test_the_defaults_are_the_post_s() -> None:
    assert RunConfig().canonical() == {
        "model": "cnn",
        "filters": 32,
        "additional_convolutions": 1,
        "padding": "valid",
        "dense_units": 128,
        "epochs": 10,
        "callback_loss": None,
        "batch_size": 32,
        "learning_rate": 0.001,
        "order": "fresh",
        "threads": 1,
    }


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        CNN.epochs = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "allowed_values"),
    [
        ("model", "rnn", "dense or cnn"),
        ("model", None, "dense or cnn"),
        ("model", 1, "dense or cnn"),
        ("filters", 0, "a whole number from 1 to 1,024"),
        ("filters", 1025, "a whole number from 1 to 1,024"),
        ("filters", 32.0, "a whole number from 1 to 1,024"),
        ("filters", "32", "a whole number from 1 to 1,024"),
        ("filters", True, "a whole number from 1 to 1,024"),
        ("additional_convolutions", -1, "a whole number from 0 to 64"),
        ("padding", "full", "valid or same"),
        ("dense_units", 0, "a whole number from 1 to 65,536"),
        ("dense_units", None, "a whole number from 1 to 65,536"),
        ("epochs", 0, "a whole number from 1 to 10,000"),
        ("epochs", -5, "a whole number from 1 to 10,000"),
        ("epochs", 2.5, "a whole number from 1 to 10,000"),
        ("callback_loss", -0.1, "a number of at least 0"),
        ("callback_loss", math.nan, "a number of at least 0"),
        ("callback_loss", math.inf, "a number of at least 0"),
        ("callback_loss", "0.19", "a number of at least 0"),
        ("batch_size", 0, "a whole number from 1 to 60,000"),
        ("batch_size", 60_001, "a whole number from 1 to 60,000"),
        ("learning_rate", 0.0, "a number from 1e-12 to 1,000.0"),
        ("learning_rate", math.nan, "a number from 1e-12 to 1,000.0"),
        ("learning_rate", None, "a number from 1e-12 to 1,000.0"),
        ("order", "random", "fresh or frozen"),
        ("threads", 0, "a whole number from 1 to 1,024"),
        ("training_images", 0, "a whole number from 1 to 60,000"),
        ("training_images", 60_001, "a whole number from 1 to 60,000"),
        ("training_images", 7_500.0, "a whole number from 1 to 60,000"),
        ("augmentation", None, "none or mirror"),
        ("augmentation", "flip", "none or mirror"),
        ("split", "random", "given or drawn"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(name: str, value: Any, allowed_values: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig(**{name: value})
    assert str(caught.value) == f"{name} is {value!r}; allowed: {allowed_values}"


def test_every_field_has_a_word_of_help_and_tells_what_is_allowed() -> None:
    assert all(field.metadata["help"] and allowed(name) for name, field in FIELDS.items())


@pytest.mark.parametrize(
    ("padding", "depth", "fit", "sides", "advice"),
    [
        ("valid", 3, 2, "28-26-13-11-5-3-1", "; padding='same' fits more"),
        ("same", 4, 3, "28-28-14-14-7-7-3-3-1", ""),
    ],
)
def test_a_depth_that_does_not_fit_says_how_many_fit(
    padding: str, depth: int, fit: int, sides: str, advice: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig(additional_convolutions=depth, padding=padding)
    assert str(caught.value) == (
        f"additional_convolutions is {depth}; with padding='{padding}' at most {fit} fit into 28x28 pixels "
        f"({sides}){advice}"
    )
    assert RunConfig(additional_convolutions=fit, padding=padding).additional_convolutions == fit


def test_feature_maps_shrink_as_the_post_says() -> None:
    assert feature_map_sizes(CNN) == [("convolution", 26), ("pooling", 13), ("convolution", 11), ("pooling", 5)]


def test_the_dense_network_has_no_feature_maps() -> None:
    assert feature_map_sizes(DENSE) == []


def test_the_dense_network_drops_what_only_the_cnn_has() -> None:
    assert (DENSE.filters, DENSE.additional_convolutions, DENSE.padding) == (None, None, None)


@pytest.mark.parametrize(("name", "value"), [("filters", 16), ("additional_convolutions", 0), ("padding", "same")])
def test_the_dense_network_refuses_a_setting_that_means_nothing_for_it(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}={value!r} means nothing for the dense network: leave it out$"):
        RunConfig(model="dense", **{name: value})


@pytest.mark.parametrize("name", ["filters", "additional_convolutions", "padding"])
def test_the_cnn_refuses_to_be_without(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be given for the cnn"):
        RunConfig.from_mapping({name: None})


def test_a_whole_number_is_as_good_as_a_float_where_floats_are_allowed() -> None:
    assert RunConfig(learning_rate=1).sha256() == RunConfig(learning_rate=1.0).sha256()


@given(configs())
def test_the_canonical_form_and_the_params_tell_the_whole_config(config: RunConfig) -> None:
    assert RunConfig.from_mapping(config.canonical()) == config
    assert RunConfig(**{name: parse(name, text) for name, text in config.params().items()}) == config


def another(name: str) -> Any:
    """A value of a field that is not its default."""
    setting = FIELDS[name]
    if "choices" in setting.metadata:
        return next(choice for choice in setting.metadata["choices"] if choice != setting.default)
    return next(end for end in (setting.metadata["low"], setting.metadata["high"]) if end != setting.default)


@pytest.mark.parametrize("name", FIELDS)
def test_the_hash_changes_with_every_setting(name: str) -> None:
    assert RunConfig(**{name: another(name)}).sha256() != CNN.sha256()


@pytest.mark.parametrize("name", [name for name, setting in FIELDS.items() if setting.metadata["since"] > 1])
def test_a_field_that_was_added_later_stands_in_the_canonical_form_where_it_is_not_the_default(name: str) -> None:
    assert name not in CNN.canonical() and name not in CNN.training_settings()
    config = RunConfig(**{name: another(name)})
    assert config.canonical() == {**CNN.canonical(), name: another(name)}
    assert config.training_settings()[name] == another(name)


def test_the_params_are_the_contract_s_names_with_none_for_what_is_not() -> None:
    params = DENSE.params()
    assert list(params) == list(FIELDS)
    assert {name: text for name, text in params.items() if FIELDS[name].metadata["since"] == 1} == {
        "model": "dense",
        "filters": "none",
        "additional_convolutions": "none",
        "padding": "none",
        "dense_units": "128",
        "epochs": "10",
        "callback_loss": "none",
        "batch_size": "32",
        "learning_rate": "0.001",
        "order": "fresh",
        "threads": "1",
    }


@pytest.mark.parametrize(
    ("name", "text", "allowed_values"),
    [
        ("epochs", "many", "a whole number from 1 to 10,000"),
        ("epochs", "none", "a whole number from 1 to 10,000"),
        ("epochs", "2.0", "a whole number from 1 to 10,000"),
        ("learning_rate", "", "a number from 1e-12 to 1,000.0"),
    ],
)
def test_a_text_that_is_no_such_value_is_refused(name: str, text: str, allowed_values: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(name, text)
    assert str(caught.value) == f"{name} is {text!r}; allowed: {allowed_values}"


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ConfigError, match=r"^there is no setting 'filter' \(did you mean 'filters'\?\); there are: mod"
    ):
        RunConfig.from_mapping({"filter": 16})


def test_where_no_name_is_near_none_is_suggested() -> None:
    assert nearest("zzz", ["filters", "epochs"]) == ""


# These two stand in every record. Another value means that no older record is found again.
@pytest.mark.parametrize(
    ("config", "sha256"),
    [
        pytest.param(CNN, "9fc38d6acdebc6758bb63363924e711da4c6c0fd8be5777a8ff32a5e457a2b62", id="cnn"),
        pytest.param(DENSE, "0c47f81e2f62d27e7134c8d59676a067a3c3c45eb26df7af3e41266de31cdcbd", id="dense"),
    ],
)
def test_the_hash_of_a_config_stays_what_it_is(config: RunConfig, sha256: str) -> None:
    assert config.sha256() == sha256


@pytest.mark.parametrize(
    ("epochs", "callback_loss", "losses", "cut"),
    [
        pytest.param(3, None, [0.5, 0.4], None, id="too-short"),
        pytest.param(3, None, [], None, id="untrained"),
        pytest.param(3, None, [0.5, 0.4, 0.3], Cut(3, "epochs"), id="just-long-enough"),
        pytest.param(3, None, [0.5, 0.4, 0.3, 0.2], Cut(3, "epochs"), id="longer"),
        pytest.param(9, 0.45, [0.5, 0.4, 0.3], Cut(2, "callback"), id="first-below"),
        pytest.param(9, 0.4, [0.5, 0.4, 0.3], Cut(3, "callback"), id="equal-is-not-below"),
        pytest.param(9, 0.45, [0.5, 0.4, 0.6], Cut(2, "callback"), id="rising-again"),
        pytest.param(9, 0.1, [0.5, 0.4, 0.3], None, id="not-below-yet"),
        pytest.param(3, 0.35, [0.5, 0.4, 0.3], Cut(3, "callback"), id="below-in-the-last-epoch"),
        pytest.param(2, 0.35, [0.5, 0.4, 0.3], Cut(2, "epochs"), id="below-after-the-last-epoch"),
        pytest.param(3, 0.0, [0.5, 0.4, 0.0], Cut(3, "epochs"), id="zero-never-stops"),
        pytest.param(3, 0.45, [math.nan, 0.5], None, id="not-a-number-is-not-below"),
    ],
)
def test_a_stopping_rule_ends_a_run_at(
    epochs: int, callback_loss: float | None, losses: list[float], cut: Cut | None
) -> None:
    assert replace(CNN, epochs=epochs, callback_loss=callback_loss).cut(losses) == cut


def test_the_training_settings_leave_out_the_stopping_rule_and_nothing_else() -> None:
    stopping_otherwise = replace(CNN, epochs=100, callback_loss=0.19)
    assert stopping_otherwise.training_settings() == CNN.training_settings()
    assert set(CNN.canonical()) - set(CNN.training_settings()) == {"epochs", "callback_loss"}


def test_runs_that_differ_in_their_stopping_rule_only_share_a_trajectory() -> None:
    stopping_otherwise = replace(CNN, epochs=100, callback_loss=0.19)
    assert trajectory_sha256(stopping_otherwise, 0, **HASHES) == trajectory_sha256(CNN, 0, **HASHES)


@pytest.mark.parametrize(
    ("config", "seed", "hashes"),
    [
        pytest.param(replace(CNN, filters=16), 0, {}, id="setting"),
        pytest.param(CNN, 1, {}, id="seed"),
        pytest.param(CNN, 0, {"data_sha256": "other"}, id="data"),
        pytest.param(CNN, 0, {"code_sha256": "other"}, id="code"),
        pytest.param(CNN, 0, {"environment_sha256": "other"}, id="environment"),
    ],
)
def test_a_trajectory_is_another_one_with_another(config: RunConfig, seed: int, hashes: dict[str, str]) -> None:
    assert trajectory_sha256(config, seed, **{**HASHES, **hashes}) != trajectory_sha256(CNN, 0, **HASHES)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.0, "0", True, None])
def test_a_seed_that_is_not_allowed_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_seed(seed)
    assert str(caught.value) == f"seed is {seed!r}; allowed: a whole number from 0 to 4,294,967,295"


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_first_and_the_last_seed_are_allowed(seed: int) -> None:
    assert check_seed(seed) == seed


def test_a_value_s_hash_does_not_depend_on_the_order_of_its_names() -> None:
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})


def test_a_number_that_json_does_not_know_has_no_hash() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        hash_of({"loss": math.nan})
