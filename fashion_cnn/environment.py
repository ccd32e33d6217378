"""What code, packages and machine a run used.

The fingerprint holds what can change bits and nothing that cannot: TensorFlow promises the same bits for the same
hardware and software only. Variables are read by an allow-list, so that no secret ever gets into a record.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent
NUMBER_MODULES = ("config.py", "data.py", "models.py", "training.py")
LIBRARIES = ("tensorflow", "keras", "numpy")
# Variables by which TensorFlow, oneDNN, XLA or CUDA choose other kernels, precisions or devices.
VARIABLES = (
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "KERAS_BACKEND",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TF_CUDNN_DETERMINISTIC",
    "TF_CUDNN_USE_AUTOTUNE",
    "TF_DETERMINISTIC_OPS",
    "TF_DISABLE_MKL",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_ENABLE_TENSOR_FLOAT_32_EXECUTION",
    "TF_ENABLE_WINOGRAD_NONFUSED",
    "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)
# TensorFlow takes oneDNN's kernels by itself on some processors only; on others they halve the time of an epoch.
KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "1"}
# Whatever the user's own settings, a diff that `git apply` takes.
PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
VECTOR_FLAGS = re.compile(r"^(sse|ssse|avx|fma|f16c|amx|asimd|neon|sve|bf16|i8mm|vnni)")


class EnvironmentFault(RuntimeError):
    """The environment lacks what was asked for, such as a GPU: one line that says what."""


def code_sha256(package: Path = PACKAGE) -> str:
    """Hex SHA-256 over the source of the modules that decide numbers; see `files_sha256`."""
    return files_sha256(code_files(package))


def code_files(package: Path = PACKAGE) -> dict[str, str]:
    """The hex SHA-256 of the source of each module that decides numbers."""
    return {name: hashlib.sha256((package / name).read_bytes()).hexdigest() for name in NUMBER_MODULES}


def files_sha256(files: Mapping[str, Any]) -> str:
    """Hex SHA-256 of some files' names and hashes.

    Of the lines "sha256  name", one per file in sorted order: what `sha256sum config.py … | sha256sum` prints.
    """
    lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def worker_variables(variables: Mapping[str, str], device: str) -> dict[str, str]:
    """The variables of a worker's process: the caller's, with the back end fixed and unasked GPUs hidden.

    oneDNN's kernels are chosen unless the caller's variables say otherwise.
    """
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {}
    return {**KERNELS, **variables, **hidden, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def fingerprint(threads: int, device: str = "cpu", variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What can change a run's bits, besides config, seed, data and code; without importing TensorFlow.

    Args:
        threads: of one run.
        device: `cpu` or `gpu`.
        variables: of the worker's process; by default this process's.

    Returns:
        JSON values: versions of Python, the libraries and the C library, the processor and its vector flags, the
        threads, the allow-listed variables, and for `gpu` the device and its driver.

    Raises:
        EnvironmentFault: device is gpu and no GPU answers.
    """
    given = worker_variables(os.environ if variables is None else variables, device)
    model, flags = _processor()
    return {
        "python": platform.python_version(),
        **{library: _version(library) for library in LIBRARIES},
        "c_library": " ".join(platform.libc_ver()).strip() or platform.system(),
        "machine": platform.machine(),
        "processor": model,
        "vector_flags": flags,
        "threads": threads,
        "device": device if device == "cpu" else _gpu(),
        "variables": {name: given[name] for name in VARIABLES if name in given},
    }


def fingerprint_sha256(values: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a fingerprint's canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> tuple[str, list[str]]:
    """The processor's model and its vector flags, sorted; outside Linux there are no flags to read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), []
    fields: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    names = [fields.get(name, "") for name in ("vendor_id", "cpu family", "model", "model name")]
    return " ".join(name for name in names if name), sorted({flag for flag in flags if VECTOR_FLAGS.match(flag)})


def _gpu() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
        cuda = re.search(
            r"CUDA Version: *([\d.]+)",
            subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30, check=True).stdout,
        )
    except (OSError, subprocess.SubprocessError):
        raise EnvironmentFault("device is gpu, but nvidia-smi finds none here; use --device cpu") from None
    return f"{answer.splitlines()[0]}, CUDA {cuda.group(1) if cuda else 'unknown'}"


def packages() -> list[str]:
    """Every installed distribution as `name==version`, sorted."""
    installed = {(dist.name.lower().replace("_", "-"), dist.version) for dist in metadata.distributions()}
    return [f"{name}=={version}" for name, version in sorted(installed)]


@dataclass(frozen=True)
class Checkout:
    """The repository's state: which commit, and what differs from it."""

    commit: str
    """Hex; `unknown` outside a git checkout."""
    dirty: bool
    """Whether the package, the scripts or the lock differ from the commit."""
    diff: str
    """Of tracked files among these; empty where clean."""
    remote: str | None = None
    """Where others find it, without credentials; None without a remote, or where the remote is a folder."""


def checkout(repository: Path = REPOSITORY) -> Checkout:
    """The state of the repository by git; untracked files count as dirty but are not in the diff."""
    paths = ["fashion_cnn", "experiments", "requirements.lock", ":(exclude)experiments/results"]
    commit = _git(repository, "rev-parse", "HEAD")
    if commit is None:
        return Checkout("unknown", dirty=False, diff="")
    status = _git(repository, "status", "--porcelain", "--", *paths)
    diff = _git(repository, "diff", "HEAD", *PLAIN_DIFF, "--", *paths) if status else ""
    return Checkout(commit.strip(), bool(status), diff or "", _remote(repository))


def _remote(repository: Path) -> str | None:
    """The address of `origin`, or else of the first remote, as configured: git's rewriting rules may hold tokens."""
    names = (_git(repository, "remote") or "").split()
    name = "origin" if "origin" in names else next(iter(names), None)
    address = name and _git(repository, "config", "--get", f"remote.{name}.url")
    return without_credentials(address.strip()) if address else None


def without_credentials(address: str) -> str | None:
    """A repository's address without user, password, query and fragment.

    `https://user:token@host/path?key=…` and git's short form `user@host:path` are both understood. None for a
    folder's address, and for one whose parts cannot be identified for sure.
    """
    url = re.fullmatch(r"(?!file:)([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?([^?#@]*)(?:[?#][^@]*)?", address)
    if url:
        return url[1] + url[2]
    short = re.fullmatch(r"(?:[^/\\]*@)?([^@:/\\]{2,}:[^@:/][^@:]*)", address)
    return short[1] if short else None


def sources(commit: str, diff: str, repository: Path = REPOSITORY) -> dict[str, str] | None:
    """The modules that decide numbers, by name, as a commit and a diff on top of it have them.

    Returns:
        Their text, or None where the repository does not have the commit, or the diff does not fit it.
    """
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return None
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "fashion_cnn")
        package.mkdir()
        for name in NUMBER_MODULES:
            text = _git(repository, "show", "--no-textconv", f"{commit}:fashion_cnn/{name}")
            if text is None:
                return None
            (package / name).write_text(text, encoding="utf-8")
        wanted = [f"--include=fashion_cnn/{name}" for name in NUMBER_MODULES]
        if diff:
            Path(folder, "diff").write_text(diff, encoding="utf-8")
            if _git(Path(folder), "apply", *wanted, "diff") is None:
                return None
        return {name: (package / name).read_text(encoding="utf-8") for name in NUMBER_MODULES}


def _git(repository: Path, *arguments: str) -> str | None:
    # A checkout made by another user is refused by git unless it is named safe.
    command = ["git", "-c", f"safe.directory={repository}", "-C", str(repository), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
