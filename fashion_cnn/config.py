"""RunConfig: every setting that decides a run's numbers but the seed, its canonical form and its hashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, NamedTuple

IMAGE_SIZE = 28  # pixels a side, of Fashion-MNIST
KERNEL_SIZE = 3
POOL_SIZE = 2
TRAINING_IMAGES = 60_000  # of Fashion-MNIST
MAX_SEED = 2**32 - 1

# A stopping rule says where a run ends; it changes no state of the trajectory before that.
STOPPING_RULE = ("epochs", "callback_loss")
CNN_ONLY = ("filters", "additional_convolutions", "padding")


class ConfigError(ValueError):
    """A setting that is not allowed: one line that says what was wrong and what is allowed."""


class Cut(NamedTuple):
    """Where a stopping rule ends a run."""

    epoch: int
    """The last epoch trained, counted from 1."""
    reason: str
    """`epochs` (all were trained) or `callback` (the training loss fell below `callback_loss`)."""


def _setting(default: Any, *, help: str, since: int = 1, **metadata: Any) -> Any:
    """A field of a config.

    Args:
        default: its value where none is given.
        help: for the command line; changes no identity.
        since: the format of records that brought it in; above 1, runs had been recorded without it before.
        **metadata: `choices`, or `low` and `high`, both included.
    """
    return field(default=default, metadata={"help": help, "since": since, **metadata})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Every setting that decides a run's numbers, but the seed.

    The defaults are the post's: one additional convolution, 32 filters, ten epochs, Keras' batch size and
    Adam's learning rate. `filters`, `additional_convolutions` and `padding` are None for the dense network.

    Raises:
        ConfigError: a value of another type, out of range, or a depth that does not fit the image.
    """

    model: str = _setting("cnn", help="which network", choices=("dense", "cnn"))
    filters: int | None = _setting(32, help="filters of each convolution (cnn)", low=1, high=1024)
    additional_convolutions: int | None = _setting(
        1, help="convolution and pooling pairs besides the first (cnn)", low=0, high=64
    )
    padding: str | None = _setting(
        "valid",
        help="valid: a convolution trims the border; same: it keeps the size (cnn)",
        choices=("valid", "same"),
    )
    dense_units: int = _setting(128, help="units of the hidden dense layer", low=1, high=65536)
    epochs: int = _setting(10, help="times the training images are gone through, at most", low=1, high=10_000)
    callback_loss: float | None = _setting(
        None,
        help="stop after the first epoch whose training loss is below this (none: never)",
        low=0.0,
        high=math.inf,
    )
    batch_size: int = _setting(32, help="images per training step", low=1, high=60_000)
    learning_rate: float = _setting(0.001, help="of Adam", low=1e-12, high=1e3)
    order: str = _setting(
        "fresh",
        help="fresh: a new order of the images each epoch; frozen: the first epoch's in every one",
        choices=("fresh", "frozen"),
    )
    threads: int = _setting(1, help="threads of one run (another number gives other bits)", low=1, high=1024)
    training_images: int = _setting(
        TRAINING_IMAGES,
        help="training images that the seed draws, of 60,000; a smaller data set gives the same share of its own",
        since=2,
        low=1,
        high=TRAINING_IMAGES,
    )
    augmentation: str = _setting(
        "none", help="mirror: each image and its mirror image, every epoch", since=2, choices=("none", "mirror")
    )
    split: str = _setting(
        "given",
        help="given: the data set's own training and test images; drawn: the seed draws both anew from all of them",
        since=2,
        choices=("given", "drawn"),
    )

    def __post_init__(self) -> None:
        """Bring numbers to one form, empty what the dense network does not have, and check each field."""
        for setting in fields(self):
            object.__setattr__(self, setting.name, _checked(setting.name, getattr(self, setting.name)))
        if self.model == "dense":
            for name in CNN_ONLY:
                if getattr(self, name) not in (None, FIELDS[name].default):
                    raise ConfigError(
                        f"{name}={getattr(self, name)!r} means nothing for the dense network: leave it out"
                    )
                object.__setattr__(self, name, None)
        else:
            for name in CNN_ONLY:
                if getattr(self, name) is None:
                    raise ConfigError(f"{name} must be given for the cnn ({allowed(name)})")
            feature_map_sizes(self)

    def canonical(self) -> dict[str, Any]:
        """The fields by name, in sorted order: what the hashes are taken of.

        A field that was added later is left out at its default, so that adding one changes no hash.
        """
        return {
            name: value
            for name, value in sorted(asdict(self).items())
            if FIELDS[name].metadata["since"] == 1 or value != FIELDS[name].default
        }

    def params(self) -> dict[str, str]:
        """All fields as text, as they are logged; None is `none`."""
        return {name: "none" if value is None else str(value) for name, value in asdict(self).items()}

    def sha256(self) -> str:
        """Hex SHA-256 of the canonical form."""
        return hash_of(self.canonical())

    def training_settings(self) -> dict[str, Any]:
        """The canonical form without the stopping rule: what the states of a trajectory depend on."""
        return {name: value for name, value in self.canonical().items() if name not in STOPPING_RULE}

    def cut(self, losses: Sequence[float]) -> Cut | None:
        """Where this config's stopping rule ends a trajectory.

        Args:
            losses: the training loss of each epoch so far, from epoch 1 on.

        Returns:
            The cut, or None where the trajectory is still too short.
        """
        for epoch, loss in enumerate(losses[: self.epochs], start=1):
            if self.callback_loss is not None and loss < self.callback_loss:
                return Cut(epoch, "callback")
        return Cut(self.epochs, "epochs") if len(losses) >= self.epochs else None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RunConfig:
        """A config of named values, as a record holds them.

        Raises:
            ConfigError: an unknown name (the nearest one is told) or a value that is not allowed.
        """
        for name in values:
            if name not in FIELDS:
                raise ConfigError(
                    f"there is no setting {name!r}{nearest(name, FIELDS)}; there are: {', '.join(FIELDS)}"
                )
        return cls(**values)


FIELDS = {setting.name: setting for setting in fields(RunConfig)}


def _checked(name: str, value: Any) -> Any:
    setting = FIELDS[name]
    if value is None and (setting.default is None or name in CNN_ONLY):
        return None
    if "choices" in setting.metadata:
        if value not in setting.metadata["choices"]:
            raise ConfigError(f"{name} is {value!r}; allowed: {allowed(name)}")
        return value
    number: type = kind(name)
    # NumPy's numbers count as well: a study may loop over an array.
    if isinstance(value, bool) or not isinstance(value, Integral if number is int else Real):
        raise ConfigError(f"{name} is {value!r}; allowed: {allowed(name)}")
    try:
        value = number(value) + 0  # -0.0 and 0.0 are one value and must have one hash
    except OverflowError:
        value = math.inf
    if not setting.metadata["low"] <= value <= setting.metadata["high"] or math.isinf(value):
        raise ConfigError(f"{name} is {value!r}; allowed: {allowed(name)}")
    return value


def kind(name: str) -> type:
    """The type of a field's values: int, float or str."""
    setting = FIELDS[name]
    return type(setting.metadata.get("low", setting.default))


def allowed(name: str) -> str:
    """What a field may hold, in words."""
    metadata = FIELDS[name].metadata
    if "choices" in metadata:
        return " or ".join(metadata["choices"])
    low, high = metadata["low"], metadata["high"]
    span = f"from {low:,} to {high:,}" if math.isfinite(high) else f"of at least {low:g}"
    return f"a {'whole ' if kind(name) is int else ''}number {span}"


def parse(name: str, text: str) -> Any:
    """A field's value from its text, the inverse of `RunConfig.params`.

    Raises:
        ConfigError: the text is no such value.
    """
    default = FIELDS[name].default
    if text == "none" and (default is None or name in CNN_ONLY):
        return None
    try:
        return kind(name)(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; allowed: {allowed(name)}") from None


def feature_map_sizes(config: RunConfig) -> list[tuple[str, int]]:
    """Side length in pixels after each convolution and pooling layer of a cnn, in order.

    Returns:
        Pairs such as ("convolution", 26), ("pooling", 13); empty for the dense network.

    Raises:
        ConfigError: an additional convolution has no pixels left to work on; says how many fit.
    """
    if config.model == "dense":
        return []
    assert config.additional_convolutions is not None
    sizes: list[tuple[str, int]] = []
    side = IMAGE_SIZE
    trimmed = KERNEL_SIZE - 1 if config.padding == "valid" else 0
    for pair in range(config.additional_convolutions + 1):
        if side - trimmed < POOL_SIZE:
            sides = "-".join(str(length) for length in (IMAGE_SIZE, *(size for _, size in sizes)))
            advice = "; padding='same' fits more" if config.padding == "valid" else ""
            raise ConfigError(
                f"additional_convolutions is {config.additional_convolutions}; with padding={config.padding!r} "
                f"at most {pair - 1} fit into {IMAGE_SIZE}x{IMAGE_SIZE} pixels ({sides}){advice}"
            )
        sizes += [("convolution", side - trimmed), ("pooling", (side - trimmed) // POOL_SIZE)]
        side = sizes[-1][1]
    return sizes


def check_seed(seed: Any) -> int:
    """The seed itself.

    Raises:
        ConfigError: not a whole number from 0 to 2**32 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"seed is {seed!r}; allowed: a whole number from 0 to {MAX_SEED:,}")
    return seed


def trajectory_sha256(
    config: RunConfig, seed: int, *, data_sha256: str, code_sha256: str, environment_sha256: str
) -> str:
    """Hex SHA-256 that names a trajectory: one config without its stopping rule, seed, data, code, environment."""
    return hash_of(
        {
            "settings": config.training_settings(),
            "seed": check_seed(seed),
            "data_sha256": data_sha256,
            "code_sha256": code_sha256,
            "environment_sha256": environment_sha256,
        }
    )


def hash_of(value: Any) -> str:
    """Hex SHA-256 of a JSON value's canonical text: sorted keys, no white space, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def nearest(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """The hint "; did you mean …?" for a wrong name, or nothing where none is near."""
    matches = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


CNN = RunConfig()
DENSE = RunConfig(model="dense")
