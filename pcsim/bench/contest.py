"""One contest: a case under a rule, its engines, its rivals and this machine's rates in the same rounds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.bench.cost import tick_cost, update_cost
from pcsim.bench.machine import copying, matrix_product
from pcsim.bench.players import player, task_of
from pcsim.bench.results import Against, Row
from pcsim.bench.timing import Samples, race, ratio, spread
from pcsim.errors import PcsimError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pcsim.bench.players import Player
    from pcsim.bench.rivals import Contestant, Rival
    from pcsim.bench.zoo import Case, RuleRow, Size
    from pcsim.engines import Task

PRODUCT, COPY = "matrix product", "copy"

ACTORS_VERTICES, ACTORS_NUMBERS = 300, 50_000
"""The largest graph that the oracle is asked to play."""

AGREEMENT = {"float32": 1e-3, "float64": 1e-9}
"""Share of the largest number by which a rival may differ; one that differs more is not timed."""


@dataclass
class Contests:
    """What is asked of all contests, and what they have found."""

    engines: Sequence[str]
    rivals: Sequence[Rival]
    size: Size
    seconds: float
    end: Callable[[], bool] = lambda: False
    """Asked between rounds: whether no more are wanted."""
    rows: list[Row] = field(default_factory=list)
    rates: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    copy: tuple[Contestant, float] = field(default_factory=copying)
    products: dict[str, tuple[Contestant, float]] = field(default_factory=dict)
    made: dict[str, Contestant] = field(default_factory=dict)
    """Rivals of the present case that more than one rule meets."""

    def play(self, case: Case, rule: RuleRow) -> None:
        """Play one contest."""
        start = time.perf_counter()
        task = task_of(case, rule, self.size)
        seconds = time.perf_counter() - start
        players = dict(self._players(case, rule, task, seconds))
        if not players:
            return
        first = next(iter(players.values()))
        rivals = dict(self._rivals(case, rule, task, first))
        product, flops = self.products.setdefault(str(task.dtype), matrix_product(task.dtype))
        copy, moved = self.copy
        contestants = {name: player.contestant for name, player in players.items()} | rivals
        contestants |= {PRODUCT: product, COPY: copy}
        samples = race(contestants, seconds=self.seconds, decided=_settled, end=self.end)
        work = {PRODUCT: flops, COPY: moved}
        for name, amount in work.items():
            self.rates.setdefault((name, str(task.dtype)), []).extend(amount / np.array(samples[name]) / 1e9)
        self.rows += [
            _row(case, rule, task, name, player, samples, list(rivals), work) for name, player in players.items()
        ]

    def _players(self, case: Case, rule: RuleRow, task: Task, seconds: float) -> Iterable[tuple[str, Player]]:
        for name in self.engines:
            if name == "actors" and not _small(task):
                continue
            try:
                found = player(name, task, rule, seconds)
                found.contestant.run()
                yield name, found
            except PcsimError as error:
                self.missing.append(f"{case.name}, {rule.name}, {name}: {error}")

    def _rivals(self, case: Case, rule: RuleRow, task: Task, first: Player) -> Iterable[tuple[str, Contestant]]:
        """Make the rivals that meet this contest, and keep those that compute the same numbers."""
        wanted: Mapping[str, np.ndarray] | None = None
        for rival in self.rivals:
            if not rival.meets(case.family.name, rule.name, task.dtype):
                continue
            made = self._made(case, rival, task)
            wanted = wanted or read_after_a_run(first.contestant)
            if made is None:
                continue
            if (apart := disagreement(read_after_a_run(made), wanted)) > AGREEMENT[str(task.dtype)]:
                self.missing.append(
                    f"{case.name}, {rule.name}: {rival.name} differs by {apart:.1e} of the largest number"
                )
            else:
                yield rival.name, made

    def _made(self, case: Case, rival: Rival, task: Task) -> Contestant | None:
        key = f"{case.name}, {rival.name}, {'' if rival.work == 'update' else task.rule.name}"
        self.made = {name: made for name, made in self.made.items() if name.startswith(case.name)}
        try:
            if key not in self.made:
                self.made[key] = rival.make(task)
            return self.made[key]
        except Exception as error:  # noqa: BLE001  a rival is foreign code: whatever it raises, the others go on
            self.missing.append(
                f"{case.name}: {rival.name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
            )
            return None


def _small(task: Task) -> bool:
    numbers = sum(prod(task.graph.vertices[name].shape) for name in task.graph.active) * task.batch
    return len(task.graph.active) <= ACTORS_VERTICES and numbers <= ACTORS_NUMBERS


def read_after_a_run(contestant: Contestant) -> Mapping[str, np.ndarray]:
    """Return what a contestant computes, from the start."""
    contestant.reset()
    contestant.run()
    return contestant.read()


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
    case: Case, rule: RuleRow, task: Task, name: str, found: Player, samples: Samples, rivals: list[str],
    work: Mapping[str, float],
) -> Row:  # fmt: skip
    mine = np.array(samples[name])
    cost = update_cost(task) if rule.whole else tick_cost(task).times(task.ticks)
    rate: Callable[[float], float] = lambda amount: float(np.median(amount / mine))  # noqa: E731
    share: Callable[[float, str], float] = lambda amount, other: float(  # noqa: E731
        np.median(amount / mine * np.array(samples[other]) / work[other])
    )
    return Row(
        case.family.name, dict(case.sizes), rule.name, name, rule.whole,
        len(task.graph.active), len(task.graph.edges), task.ticks, task.batch, str(task.dtype),
        spread(samples[name]), found.build, rate(task.ticks), rate(cost.messages), rate(cost.products) / 1e9,
        rate(cost.elementwise) / 1e9, rate(cost.bytes) / 1e9, share(cost.products, PRODUCT), share(cost.bytes, COPY),
        tuple(Against(other, spread(samples[other]), ratio(samples[name], samples[other])) for other in rivals),
    )  # fmt: skip
