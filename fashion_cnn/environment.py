"""What a run is computed with: its arithmetic, the libraries and variables that choose bits, and the machine.

TensorFlow's kernels come from oneDNN, which picks them by the processor's instruction set. Held to AVX2 they gave the
same bits on every processor that has it: that is the arithmetic `portable`, in which the processor is no part of a
trajectory's identity. `native` takes this processor's fastest kernels, and the processor is part of the identity.

Variables are read by an allow-list, so that no secret ever gets into a record.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from fashion_cnn import start

Arithmetic = Literal["portable", "native"]
ARITHMETICS: Final[tuple[Arithmetic, ...]] = ("portable", "native")
LIBRARIES: Final = ("tensorflow", "keras", "numpy")
VARIABLES: Final = (
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
"""By which TensorFlow, oneDNN, XLA or CUDA choose other kernels, precisions or devices."""
KERNELS: Final[dict[Arithmetic, dict[str, str]]] = {
    # TensorFlow takes oneDNN's kernels by itself on some processors only; on others they halve the time of an epoch.
    "portable": {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "native": {"TF_ENABLE_ONEDNN_OPTS": "1"},
}
"""The variables that fix an arithmetic."""
PLAIN: Final = {"KERAS_BACKEND": "tensorflow", "MPLBACKEND": "agg", "PYTHONWARNINGS": ""}
"""What is meant for other programs, and would stop a run here or have it compute with something else."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
PORTABLE_FLAGS: Final = ("avx2", "fma")
"""What a processor must have for the portable arithmetic, as Linux names it."""
VECTOR_FLAGS: Final = re.compile(r"^(sse|ssse|avx|fma|f16c|amx|asimd|neon|sve|bf16|i8mm|vnni)")


class EnvironmentFault(RuntimeError):
    """The environment lacks what was asked for: one line that says what."""


def settle() -> None:
    """Have variables and files that are meant for other programs change nothing in this process: first in a command.

    Raises:
        EnvironmentFault: nothing can be done on this system, or from this folder.
    """
    if os.name != "posix":
        raise EnvironmentFault("this system cannot run it; Linux can, macOS in part (README), and WSL 2 on Windows")
    try:
        os.getcwd()
    except OSError:
        raise EnvironmentFault("the current folder is gone; change to one that is there (cd)") from None
    start.own_modules_first()
    if os.environ.get("PYTHONWARNINGS"):  # which may have made errors of other packages' warnings
        warnings.simplefilter("ignore")
    os.environ.update(PLAIN)
    if os.path.expanduser("~") == "~":  # a container's user; MLflow asks for a home when it is imported
        os.environ["HOME"] = os.devnull
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if direct != "*":  # a proxy is asked for what is elsewhere
        os.environ.update(dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(filter(None, (direct, *LOOPBACK)))))


@dataclass(frozen=True)
class Choice:
    """An arithmetic, and why it is not the portable one."""

    arithmetic: Arithmetic
    reason: str = ""


def choose(
    asked: Arithmetic | None,
    *,
    threads: int = 1,
    device: str = "cpu",
    variables: Mapping[str, str] | None = None,
) -> Choice:
    """The arithmetic of runs: `portable` unless something stands against it. `known_answers` has the last word.

    Args:
        asked: by the user; None leaves it to the machine.
        threads: of one run; what is known of the portable arithmetic is of one.
        device: `cpu` or `gpu`.
        variables: the user's; by default this process's.

    Raises:
        EnvironmentFault: `portable` was asked for and cannot be had; says why.
    """
    if asked == "native":
        return Choice("native")
    reason = _against_portable(threads, device, os.environ if variables is None else variables)
    if reason and asked == "portable":
        raise EnvironmentFault(f"arithmetic is portable, but {reason}; use --arithmetic native")
    return Choice("native", reason) if reason else Choice("portable")


def _against_portable(threads: int, device: str, variables: Mapping[str, str]) -> str:
    """What keeps a run from the portable arithmetic, in words; nothing where nothing does."""
    _, flags = _processor()
    lacking = [flag for flag in PORTABLE_FLAGS if flag not in flags]
    fixed = {**KERNELS["portable"], "KERAS_BACKEND": variables.get("KERAS_BACKEND")}
    other = [
        f"{name}={variables[name]}" for name in VARIABLES if variables.get(name, fixed.get(name)) != fixed.get(name)
    ]
    if device != "cpu":
        return f"the device is {device}"
    if threads != 1:
        return f"a run has {threads} threads"
    if not flags and platform.machine() in ("x86_64", "AMD64"):
        return "this system does not tell what its processor can do (/proc/cpuinfo)"
    if platform.machine() not in ("x86_64", "AMD64") or lacking:
        return f"this processor has no {' and no '.join(flag.upper() for flag in lacking) or 'x86-64 instructions'}"
    return f"{' and '.join(other)} chooses other kernels" if other else ""


def own_kernels() -> bool:
    """Have TensorFlow compute in this machine's arithmetic where this process imports it itself, as a notebook does.

    TensorFlow reads its choice of kernels when it is imported: workers get theirs from the runner. Call it before Keras
    is imported.

    Returns:
        False where TensorFlow was imported before, with another choice.

    Raises:
        EnvironmentFault: Keras was imported before, with another back end.
    """
    chosen = KERNELS[choose(None).arithmetic]
    if "keras" not in sys.modules:  # a user's variable or keras.json may name another back end
        os.environ["KERAS_BACKEND"] = "tensorflow"
    elif (backend := sys.modules["keras"].config.backend()) != "tensorflow":
        raise EnvironmentFault(
            f"Keras was imported with the back end {backend}; start again and import fashion_cnn before it"
        )
    if "tensorflow" in sys.modules and any(os.environ.get(name) != chosen[name] for name in chosen):
        return False
    os.environ.update(chosen)
    return True


def worker_variables(variables: Mapping[str, str], device: str, arithmetic: Arithmetic) -> dict[str, str]:
    """The variables of a worker's process: the caller's, with arithmetic and back end fixed, and unasked GPUs hidden.

    Under `native` the caller's own choice of kernels stands.
    """
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {}
    given = {**variables, **KERNELS["portable"]} if arithmetic == "portable" else {**KERNELS["native"], **variables}
    return {**given, **hidden, **PLAIN, "TF_CPP_MIN_LOG_LEVEL": "3"}


def own_command(module: str, *words: str) -> list[str]:
    """The command that runs a module of this very package, whatever else is importable under a name that it uses."""
    return [sys.executable, "-P", start.__file__, module, *words]


def fingerprint(
    threads: int, device: str = "cpu", arithmetic: Arithmetic = "portable", variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What can change a run's bits, besides config, seed, data and code; without importing TensorFlow.

    Args:
        threads: of one run.
        device: `cpu` or `gpu`.
        arithmetic: of the run.
        variables: the user's; by default this process's.

    Returns:
        JSON values: the arithmetic, versions of the libraries and the C library, threads, the allow-listed variables;
        under `native` the processor and its vector flags, and for `gpu` the device and its driver.

    Raises:
        EnvironmentFault: device is gpu and none answers.
    """
    given = worker_variables(os.environ if variables is None else variables, device, arithmetic)
    processor, flags = _processor()
    own = {"processor": processor, "vector_flags": flags} if arithmetic == "native" else {}
    return {
        "arithmetic": arithmetic,
        **{library: version(library) or "not installed" for library in LIBRARIES},
        "c_library": " ".join(platform.libc_ver()).strip() or platform.system(),
        "machine": platform.machine(),
        **own,
        "threads": threads,
        "device": device if device == "cpu" else _gpu(),
        "variables": {name: given[name] for name in VARIABLES if name in given},
    }


def fingerprint_sha256(values: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a fingerprint's canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def machine() -> dict[str, Any]:
    """The machine as a record describes it beside its identity: nothing of it changes a portable run's bits.

    Returns:
        JSON values: `python`, `processor`, `vector_flags`, `caches` (bytes as Linux writes them, by level and type),
        `cores` that this process may use, `kernel`, `memory_mib` and `load` (processes, over the last minute); what
        the system does not tell is None.
    """
    processor, flags = _processor()
    caches = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with suppress(OSError):
            level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
            caches[f"L{level} {kind.lower()}"] = size
    memory = load = None
    with suppress(OSError, ValueError, AttributeError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    with suppress(OSError):
        load = round(os.getloadavg()[0], 2)
    return {
        "python": platform.python_version(),
        "processor": processor,
        "vector_flags": flags,
        "caches": caches,
        "cores": cores(),
        "kernel": f"{platform.system()} {platform.release()}",
        "memory_mib": memory,
        "load": load,
    }


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def version(distribution: str) -> str | None:
    """The version of an installed distribution, None where there is none; see `packages`."""
    return next((version for _, version in _installed(distribution)), None)


def _processor() -> tuple[str, list[str]]:
    """The processor's model and its vector flags, sorted; Linux tells both, elsewhere the model must do."""
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
    """Every installed distribution as `name==version`, sorted; what an interrupted installation left is none."""
    return [f"{name}=={version}" for name, version in sorted(set(_installed()))]


def _installed(wanted: str | None = None) -> Iterator[tuple[str, str]]:
    for found in metadata.distributions(name=wanted):
        with suppress(Exception):  # whatever lies there: a list of packages is worth no run
            name, version = found.name, found.version
            if name and version:
                yield name.lower().replace("_", "-"), version
