"""Comparisons: a case under a rule, its engines, its baselines and this machine's rates in the same rounds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.analysis.cost import tick_work, update_work
from pcsim.bench.bench_results import Against, Row
from pcsim.bench.engine_timers import engine_timer, task_of
from pcsim.bench.machine import copying, matrix_product
from pcsim.bench.timing import Samples, race, ratio, spread
from pcsim.errors import PcsimError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pcsim.bench.baselines import Baseline, Candidate
    from pcsim.bench.engine_timers import EngineTimer
    from pcsim.bench.families import Case, RuleRow, Size
    from pcsim.engines import Task

PRODUCT, COPY = "matrix product", "copy"

ACTORS_VERTICES, ACTORS_NUMBERS = 300, 50_000
"""The largest graph that the oracle is asked to run."""

AGREEMENT = {"float32": 1e-3, "float64": 1e-9}
"""Share of the largest number by which a baseline may differ; one that differs more is not timed."""


@dataclass
class Comparisons:
    """What is asked of all comparisons, and what they have found."""

    engines: Sequence[str]
    baselines: Sequence[Baseline]
    size: Size
    seconds: float
    end: Callable[[], bool] = lambda: False
    """Asked between rounds: whether no more are wanted."""
    rows: list[Row] = field(default_factory=list)
    rates: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    copy: tuple[Candidate, float] = field(default_factory=copying)
    products: dict[str, tuple[Candidate, float]] = field(default_factory=dict)
    made: dict[str, Candidate] = field(default_factory=dict)
    """Baselines of the present case that more than one rule meets."""

    def add(self, case: Case, rule: RuleRow) -> None:
        """Time one comparison, and add its rows."""
        start = time.perf_counter()
        task = task_of(case, rule, self.size)
        seconds = time.perf_counter() - start
        timers = dict(self._timers(case, rule, task, seconds))
        if not timers:
            return
        first = next(iter(timers.values()))
        baselines = dict(self._baselines(case, rule, task, first))
        product, flops = self.products.setdefault(str(task.dtype), matrix_product(task.dtype))
        copy, moved = self.copy
        candidates = {name: timer.candidate for name, timer in timers.items()} | baselines
        candidates |= {PRODUCT: product, COPY: copy}
        samples = race(candidates, seconds=self.seconds, decided=_settled, end=self.end)
        work = {PRODUCT: flops, COPY: moved}
        for name, amount in work.items():
            self.rates.setdefault((name, str(task.dtype)), []).extend(amount / np.array(samples[name]) / 1e9)
        self.rows += [
            _row(case, rule, task, name, timer, samples, list(baselines), work) for name, timer in timers.items()
        ]

    def _timers(self, case: Case, rule: RuleRow, task: Task, seconds: float) -> Iterable[tuple[str, EngineTimer]]:
        for name in self.engines:
            if name == "actors" and not _small(task):
                continue
            try:
                found = engine_timer(name, task, rule, seconds)
                found.candidate.run()
                yield name, found
            except PcsimError as error:
                self.missing.append(f"{case.name}, {rule.name}, {name}: {error}")

    def _baselines(self, case: Case, rule: RuleRow, task: Task, first: EngineTimer) -> Iterable[tuple[str, Candidate]]:
        """Make the baselines that meet this comparison, and keep those that compute the same numbers."""
        wanted: Mapping[str, np.ndarray] | None = None
        for baseline in self.baselines:
            if not baseline.meets(case.family.name, rule.name, task.dtype):
                continue
            made = self._made(case, baseline, task)
            wanted = wanted or read_after_a_run(first.candidate)
            if made is None:
                continue
            if (apart := disagreement(read_after_a_run(made), wanted)) > AGREEMENT[str(task.dtype)]:
                self.missing.append(
                    f"{case.name}, {rule.name}: {baseline.name} differs by {apart:.1e} of the largest number"
                )
            else:
                yield baseline.name, made

    def _made(self, case: Case, baseline: Baseline, task: Task) -> Candidate | None:
        key = f"{case.name}, {baseline.name}, {'' if baseline.work == 'update' else task.rule.name}"
        self.made = {name: made for name, made in self.made.items() if name.startswith(case.name)}
        try:
            if key not in self.made:
                self.made[key] = baseline.make(task)
            return self.made[key]
        except Exception as error:  # noqa: BLE001  a baseline is foreign code: whatever it raises, the others go on
            self.missing.append(
                f"{case.name}: {baseline.name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
            )
            return None


def _small(task: Task) -> bool:
    numbers = sum(prod(task.graph.vertices[name].shape) for name in task.graph.active) * task.batch
    return len(task.graph.active) <= ACTORS_VERTICES and numbers <= ACTORS_NUMBERS


def read_after_a_run(candidate: Candidate) -> Mapping[str, np.ndarray]:
    """Return what a candidate computes, from the start."""
    candidate.reset()
    candidate.run()
    return candidate.read()


def disagreement(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference, as a share of the largest number; infinity where names differ."""
    if not found or not found.keys() <= wanted.keys():
        return float("inf")
    largest = max(float(np.abs(wanted[name]).max(initial=0)) for name in found)
    apart = max(float(np.abs(found[name] - wanted[name]).max(initial=0)) for name in found)
    return apart / largest if largest else apart


def _settled(samples: Samples) -> bool:
    """Return whether every ratio is known to 5 %, either way."""
    names = [name for name in samples if name not in (PRODUCT, COPY)]
    pairs = [(a, b) for number, a in enumerate(names) for b in names[number + 1 :]] or [(names[0], PRODUCT)]
    found = [ratio(samples[a], samples[b]) for a, b in pairs]
    return all(row.low is not None and row.high is not None and row.high - row.low < 0.1 * row.median for row in found)


def _row(
    case: Case, rule: RuleRow, task: Task, name: str, found: EngineTimer, samples: Samples, baselines: list[str],
    work: Mapping[str, float],
) -> Row:  # fmt: skip
    mine = np.array(samples[name])
    cost = update_work(task) if rule.whole else tick_work(task).times(task.ticks)
    rate: Callable[[float], float] = lambda amount: float(np.median(amount / mine))  # noqa: E731
    share: Callable[[float, str], float] = lambda amount, other: float(  # noqa: E731
        np.median(amount / mine * np.array(samples[other]) / work[other])
    )
    return Row(
        case.family.name, dict(case.sizes), rule.name, name, rule.whole,
        len(task.graph.active), len(task.graph.edges), task.ticks, task.batch, str(task.dtype),
        spread(samples[name]), found.build, rate(task.ticks), rate(cost.messages), rate(cost.products) / 1e9,
        rate(cost.elementwise) / 1e9, rate(cost.bytes) / 1e9, share(cost.products, PRODUCT), share(cost.bytes, COPY),
        tuple(Against(other, spread(samples[other]), ratio(samples[name], samples[other])) for other in baselines),
    )  # fmt: skip
