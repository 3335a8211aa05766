"""What this machine is and what it can do: its matrix-product rate and its copy rate."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.bench.baselines import Candidate
from pcsim.run.provenance import processor

if TYPE_CHECKING:
    from collections.abc import Iterable

PRODUCT_SIZE = 1024
"""Rows and columns of the matrices whose product tells the rate: long enough for all cores, short beside a round."""
COPIED = 1 << 25
"""Bytes that each thread copies: beyond what caches hold."""

PACKAGES = ("pcsim", "numpy", "scipy", "numba", "torch", "jax", "cupy")


@dataclass(frozen=True)
class Machine:
    """What the numbers were measured on; no names, no paths."""

    cpu: str
    cores: int
    caches: tuple[str, ...]
    memory_gib: float | None
    gpus: tuple[str, ...]
    system: str
    blas: str
    versions: dict[str, str]
    commit: str | None


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> Machine:
    """Look at this machine."""
    versions = {"python": platform.python_version(), **{name: found for name in PACKAGES if (found := _version(name))}}
    system = f"{platform.system()} {platform.machine()}"
    return Machine(
        processor(), cores(), tuple(_caches()), _memory(), tuple(_gpus()), system, _blas(), versions, _commit()
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _caches() -> Iterable[str]:
    for index in range(8):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
        level, kind, size = (_read(f"{folder}/{name}") for name in ("level", "type", "size"))
        if size:
            yield f"L{level} {kind.lower()} {size}"


def _memory() -> float | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return round(int(found[1]) / 2**20, 1) if found else None


def _output(*command: str) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    return ""


def _gpus() -> list[str]:
    return _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader").splitlines()


def _blas() -> str:
    found: Any = np.show_config(mode="dicts")
    row = found["Build Dependencies"]["blas"]
    return f"{row['name']} {row['version']}"


def _commit() -> str | None:
    """Return the commit of the source that runs, if it is a checkout; ``+`` where files have changed since."""
    folder, name = str(Path(__file__).parent), Path(__file__).name
    if not _output("git", "-C", folder, "ls-files", "--error-unmatch", name):
        return None
    found = _output("git", "-C", folder, "rev-parse", "--short=12", "HEAD")
    changed = found and _output("git", "-C", folder, "status", "--porcelain", "--untracked-files=no", ".")
    return (found + ("+" if changed else "")) or None


def matrix_product(dtype: np.dtype[Any]) -> tuple[Candidate, float]:
    """Return a large matrix product by all threads of NumPy's BLAS, and its floating-point operations."""
    a, b = np.random.default_rng(0).standard_normal((2, PRODUCT_SIZE, PRODUCT_SIZE)).astype(dtype)
    out = np.empty_like(a)
    return Candidate(_nothing, lambda: np.matmul(a, b, out=out), lambda: {"product": out}), 2.0 * PRODUCT_SIZE**3


def copying() -> tuple[Candidate, float]:
    """Return a copy by one thread per core, and the bytes that it reads and writes."""
    parts = [(np.zeros(COPIED, np.uint8), np.ones(COPIED, np.uint8)) for _ in range(cores())]
    pool = ThreadPoolExecutor(len(parts))

    def run() -> None:
        for done in [pool.submit(np.copyto, *part) for part in parts]:
            done.result()

    return Candidate(_nothing, run, lambda: {"copy": parts[0][0]}), 2.0 * COPIED * len(parts)


def _nothing() -> None:
    """Reset what keeps no state."""
