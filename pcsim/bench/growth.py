"""How cost grows: with depth, width, edges, batch, ticks and delay, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.bench.bench_results import Curve
from pcsim.bench.engine_timers import engine_timer
from pcsim.bench.families import RULES, Case, Family, Size, scenario_of
from pcsim.bench.family_documents import chain, population
from pcsim.bench.timing import race, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcsim.bench.engine_timers import EngineTimer

RULE_NAMES = ("fpa", "il")


@dataclass(frozen=True)
class Axis:
    """One size that varies: the graphs, the sizes that stay, what varies, and how many ticks are run."""

    name: str
    document: Callable[[Mapping[str, int]], dict[str, Any]]
    fixed: Mapping[str, int]
    small: tuple[int, ...]
    full: tuple[int, ...]
    size: str = ""

    def sizes(self, size: Size) -> tuple[int, ...]:
        """Return what varies."""
        return self.small if size == "small" else self.full


TICKS: Mapping[Size, int] = {"small": 10, "full": 50}

AXES = (
    Axis("depth", chain, {"width": 64, "batch": 64}, (2, 4, 8), (8, 16, 32, 64, 128, 256)),
    Axis("width", chain, {"depth": 8, "batch": 64}, (8, 16, 32), (32, 64, 128, 256, 512)),
    Axis("edges", population, {"neurons": 20_000, "most_delay": 0, "batch": 1},
         (20_000, 40_000, 80_000), (250_000, 500_000, 1_000_000, 2_000_000), "synapses"),
    Axis("batch", chain, {"depth": 16, "width": 64}, (4, 8, 16), (16, 32, 64, 128, 256, 512)),
    Axis("ticks", chain, {"depth": 16, "width": 64, "batch": 64}, (10, 20, 40), (25, 50, 100, 200, 400, 800)),
    Axis("delay", chain, {"depth": 16, "width": 64, "batch": 64}, (1, 2, 4), (1, 2, 4, 8, 16, 32)),
)  # fmt: skip


def curves(engine: str, rules: Sequence[str], size: Size, seconds: float, end: Callable[[], bool]) -> list[Curve]:
    """Return the curves of every axis, under those of fpa and il that are among ``rules``, until it is to end.

    ``seconds`` are shared out among them.
    """
    pairs = [(axis, rule) for axis in AXES for rule in RULE_NAMES if rule in rules]
    each = seconds / max(1, len(pairs))
    found = []
    for axis, rule in pairs:
        if end():
            break
        found.append(curve(axis, rule, engine, size, each))
    return found


def curve(axis: Axis, rule: str, engine: str, size: Size, seconds: float) -> Curve:
    """Time one axis, all its sizes in interleaved rounds."""
    sizes, per = axis.sizes(size), 1 if axis.name == "ticks" else TICKS[size]
    timers = {str(value): _timer(axis, rule, engine, value, TICKS[size]) for value in sizes}
    samples = race({name: found.candidate for name, found in timers.items()}, seconds=seconds)
    found = [spread([sample / per for sample in samples[str(value)]]) for value in sizes]
    medians = [row.median for row in found]
    slope = float(np.polyfit(np.log(sizes), np.log(medians), 1)[0])
    what = "run" if axis.name == "ticks" else "tick"
    return Curve(axis.name, rule, engine, what, axis.fixed, sizes, tuple(medians),
                 tuple(row.low for row in found), tuple(row.high for row in found), slope)  # fmt: skip


def _timer(axis: Axis, rule: str, engine: str, value: int, ticks: int) -> EngineTimer:
    sizes = dict(axis.fixed) | ({} if axis.name == "ticks" else {axis.size or axis.name: value})
    case = Case(Family(axis.name, "", axis.document, (), ()), sizes)
    task = scenario_of(case, RULES[rule], value if axis.name == "ticks" else ticks).task()
    return engine_timer(engine, task, RULES[rule], 0.0)
