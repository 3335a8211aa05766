"""What a benchmark found: plain data, written as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pcsim.bench.machine import Machine
    from pcsim.bench.timing import Ratio, Spread

RESULTS = "results.json"


@dataclass(frozen=True)
class Build:
    """Seconds to make a task of a document (synapses, parameters and data drawn) and a session of the task."""

    task: float
    session: float


@dataclass(frozen=True)
class Rate:
    """What this machine does in a comparison's rounds, in 10^9 operations or bytes a second: median and quartiles."""

    name: str
    dtype: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Against:
    """One baseline in one comparison, and the ratio of an engine's time to its time."""

    baseline: str
    seconds: Spread
    ratio: Ratio


@dataclass(frozen=True)
class Row:
    """One engine on one case under one rule.

    Attributes
    ----------
    seconds : of ``ticks`` ticks from tick 0; where ``whole``, of one update from new data
    gflops, gbytes : achieved, in 10^9 a second, as the cost model counts them (products; bytes)
    of_product_rate, of_copy_rate : the same as shares of what this machine did in the same rounds
    """

    family: str
    sizes: Mapping[str, int]
    rule: str
    engine: str
    whole: bool
    vertices: int
    edges: int
    ticks: int
    batch: int
    dtype: str
    seconds: Spread
    build: Build
    ticks_per_second: float
    messages_per_second: float
    gflops: float
    gflops_elementwise: float
    gbytes: float
    of_product_rate: float
    of_copy_rate: float
    against: tuple[Against, ...] = ()


@dataclass(frozen=True)
class Cold:
    """What a process pays before the first tick: seconds to import, and what the first run costs beyond the second.

    ``compile`` is where compiled kernels are made, or loaded from disk; ``peak_mib`` is the most memory that the
    process held over all rules.
    """

    family: str
    sizes: Mapping[str, int]
    engine: str
    imports: float
    compile: float
    session: float
    peak_mib: float


@dataclass(frozen=True)
class Curve:
    """How seconds grow with one size, the others fixed; ``slope`` is fitted to the logarithms.

    ``per`` says what the seconds are of: a tick or a run.
    """

    axis: str
    rule: str
    engine: str
    per: str
    fixed: Mapping[str, int]
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    slope: float


@dataclass(frozen=True)
class Results:
    """Everything that was measured, and what could not take part."""

    machine: Machine
    size: str
    seconds: float
    rates: tuple[Rate, ...]
    rows: tuple[Row, ...]
    cold: tuple[Cold, ...]
    growth: tuple[Curve, ...]
    missing: tuple[str, ...]
    interrupted: bool = False
    """Whether Ctrl-C ended it before everything was measured."""


def plain(results: Results) -> dict[str, Any]:
    """Return results as plain data."""
    data = asdict(results)
    for other in (other for row in data["rows"] for other in row["against"]):
        other["rival"] = other["baseline"]  # its name in files of before
    return {"pcsim": "bench/1", **data}


def write(results: Results, folder: Path) -> Path:
    """Write results as JSON; return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RESULTS
    path.write_text(json.dumps(plain(results), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path
