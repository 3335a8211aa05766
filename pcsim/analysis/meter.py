"""What is measured while a run ticks: norms, divergence from backprop, energy, convergence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pcsim.analysis.theory import SETTLED_FROM, distance_left
from pcsim.graph.levels import light_cone, vertex_levels
from pcsim.ops import LOSSES
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcsim.analysis.backprop import Reference
    from pcsim.engines.base import Read, Session, Task

Array = np.ndarray


NOISE = 4
"""Roundings of a value that a step of its error may be made of."""


@dataclass
class Group:
    """Vertices of one shape, read together. Arrays are (vertices, ...)."""

    names: tuple[str, ...]
    read: Read
    value: Read
    wanted: Array
    """(vertices, batch * units): the backprop error."""
    scale: Array
    """What differences are divided by: the norm of the backprop error, or, where that is zero, of the whole graph's."""
    precision: Array | None
    place: slice


@dataclass(frozen=True)
class Lossy:
    """An output whose loss is no clamp: its share of the free energy is the weighted loss, not the squared error."""

    loss: str
    target: Array
    error: Read
    prediction: Read
    precision: Array

    def surplus(self) -> float:
        """Return the loss less the squared error that was counted in its place."""
        error = self.error()
        loss = float(np.sum(LOSSES[self.loss].value(np, self.prediction(), self.target)))
        return float(np.mean(self.precision)) * loss - 0.5 * float(np.sum(error * self.precision * error))


@dataclass
class Meter:
    """Follows a run tick by tick. Per-vertex arrays are in the order of ``names``.

    ``learnt`` is the divergence of what a vertex's parameters learn from: the error now, or, for rules
    that fire once, the error as it was when they fired (infinite before).
    """

    task: Task
    names: tuple[str, ...]
    groups: Sequence[Group]
    levels: Array
    cone: Array
    """First tick at which each error can differ from zero; -1 where it never can."""
    criterion: str
    tolerance: float
    losses: Sequence[Lossy]
    norm: Array = field(init=False)
    divergence: Array = field(init=False)
    learnt: Array = field(init=False)
    fraction: Array = field(init=False)
    arrival: Array = field(init=False)
    energy: float = float("nan")
    first_energy: float = float("nan")
    change: float = float("nan")
    criterion_value: float = float("inf")
    last_late: int = -1
    tick: int = -1
    before: list[Array] | None = None
    moved: Array | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        self.norm, self.divergence, self.fraction = np.zeros(count), np.zeros(count), np.zeros(count)
        self.learnt = np.full(count, np.inf)
        self.arrival = np.full(count, -1)

    def follow(self, tick: int) -> None:
        """Take the measures of a tick."""
        self.tick = tick
        with np.errstate(all="ignore"):
            energy = sum(self._group(group, tick) for group in self.groups)
            energy += sum(output.surplus() for output in self.losses)
            before, self.energy = self.energy, energy
            self.arrival[(self.arrival < 0) & (self.norm != 0)] = tick
            self._keep_learnt(tick)
            self.change = abs(energy - before) / abs(energy) if energy else abs(before)
            value = _CRITERIA[self.criterion](self)
        self.criterion_value = value
        if tick == 0:
            self.first_energy = energy
        if not value <= self.tolerance:
            self.last_late = tick

    def _group(self, group: Group, tick: int) -> float:
        error = group.read().reshape(len(group.names), -1)
        sent = error if group.precision is None else group.precision * error
        self.norm[group.place] = np.sqrt(np.einsum("ij,ij->i", error, error))
        sent_as_learnt = sent if self.task.rule.output_variance == 1 else self.task.rule.output_variance * sent
        away = sent_as_learnt - group.wanted
        self.divergence[group.place] = np.sqrt(np.einsum("ij,ij->i", away, away)) / group.scale
        self._take_fraction(group, sent_as_learnt, tick)
        return 0.5 * float(np.einsum("ij,ij->", error, sent))

    def _take_fraction(self, group: Group, sent: Array, tick: int) -> None:
        along = np.einsum("ij,ij->i", sent, group.wanted)
        rule = self.task.rule
        here = self.fraction[group.place]
        if rule.fires == "level":
            fires = self.levels[group.place] == tick
        elif rule.fires == "arrival":
            fires = (self.arrival[group.place] < 0) & (self.norm[group.place] != 0)
        else:
            fires = np.ones(len(here), bool)
        here[fires] = along[fires]

    def _keep_learnt(self, tick: int) -> None:
        rule = self.task.rule
        if rule.fires == "level":
            fires = self.levels == tick
        elif rule.fires == "arrival":
            fires = self.arrival == tick
        else:
            fires = np.ones(len(self.names), bool)
        self.learnt[fires] = self.divergence[fires]

    @property
    def worst(self) -> float:
        """The greatest divergence of what is learnt, over the vertices that backprop reaches."""
        reached = self.levels >= 0
        return float(np.max(self.learnt[reached], initial=0.0))

    @property
    def converged_at(self) -> int | None:
        """The first tick from which the criterion has stayed within the tolerance; None if it does not now."""
        return self.last_late + 1 if self.last_late < self.tick else None

    def by_level(self) -> dict[int, float]:
        """Return the fraction of the backprop error that has come to each level."""
        found = {}
        square = np.concatenate([np.einsum("ij,ij->i", group.wanted, group.wanted) for group in self.groups])
        for level in sorted(set(self.levels[self.levels >= 0].tolist())):
            here = self.levels == level
            whole = float(square[here].sum())
            if whole > 0:
                found[int(level)] = float(self.fraction[here].sum()) / whole
        return found


def _gradient(meter: Meter) -> float:
    return meter.worst


def _update(meter: Meter) -> float:
    now = [group.value().copy() for group in meter.groups]
    before, meter.before = meter.before, now
    if before is None:
        return float("inf")
    return max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(now, before, strict=True))


def _settled(meter: Meter) -> float:
    """Return the greatest relative distance of a vertex's error from its limit, told from its last two steps."""
    now = [group.read().reshape(len(group.names), -1).copy() for group in meter.groups]
    before, meter.before = meter.before, now
    if before is None:
        return float("inf")
    moved = np.concatenate([np.sqrt(np.einsum("ij,ij->i", a - b, a - b)) for a, b in zip(now, before, strict=True)])
    moved_before, meter.moved = meter.moved, moved
    if moved_before is None or meter.tick < max(SETTLED_FROM, int(meter.cone.max(initial=0))):
        return float("inf")
    values = [group.value().reshape(len(group.names), -1) for group in meter.groups]
    size = np.concatenate([np.sqrt(np.einsum("ij,ij->i", value, value)) for value in values])
    noise = NOISE * np.finfo(meter.task.dtype).eps * size
    return float(np.max(distance_left(moved, moved_before, meter.norm, noise), initial=0.0))


def _energy(meter: Meter) -> float:
    """Return the relative change of the free energy in this tick; infinite in the first."""
    return float("inf") if np.isnan(meter.change) else meter.change


_CRITERIA: dict[str, Callable[[Meter], float]] = {
    "gradient": _gradient,
    "update": _update,
    "settled": _settled,
    "energy": _energy,
}


def cone_of(task: Task) -> dict[str, int | None]:
    """Return the first tick at which each error can differ from zero; None for never.

    A run that starts elsewhere than in the feedforward sweep has errors from tick 0 on.
    """
    if task.initial:
        return dict.fromkeys(task.graph.active, 0)
    return light_cone(task.graph, moving=task.rule.moving, learning=task.rule.fires == "every")


def meter(task: Task, session: Session, reference: Reference, criterion: str, tolerance: float) -> Meter:
    """Return a meter for a run; ``criterion`` is ``gradient``, ``update``, ``settled`` or ``energy``."""
    found = vertex_levels(task.graph)
    names: list[str] = []
    groups = []
    with np.errstate(all="ignore"):
        whole = np.sqrt(sum(float(np.sum(error.astype(float) ** 2)) for error in reference.errors.values())) or 1.0
        for layout in session.layout():
            groups.append(_group_of(task, session, reference, layout, len(names), whole))
            names += layout
    levels = np.array([-1 if (level := found[name]) is None else level for name in names])
    cone = cone_of(task)
    first = np.array([-1 if (tick := cone[name]) is None else tick for name in names])
    return Meter(task, tuple(names), groups, levels, first, criterion, tolerance, _lossy(task, session))


def _lossy(task: Task, session: Session) -> list[Lossy]:
    return [
        Lossy(
            loss,
            np.asarray(task.targets[name], task.dtype)[None],
            session.reader("error", [name]),
            session.reader("prediction", [name]),
            np.asarray(precision_of(task.graph, name, task.rule)),
        )
        for name, loss in task.losses.items()
        if loss != "squared_error"
    ]


def _group_of(
    task: Task, session: Session, reference: Reference, names: tuple[str, ...], start: int, whole: float
) -> Group:
    wanted = np.stack([reference.errors[name].ravel() for name in names])
    scale = np.sqrt(np.einsum("ij,ij->i", wanted, wanted))
    rows = [precision_of(task.graph, name, task.rule) * np.ones(task.graph.vertices[name].shape) for name in names]
    unit = all((row == 1).all() for row in rows)
    precision = None if unit else np.stack([np.tile(row.ravel(), task.batch) for row in rows]).astype(task.dtype)
    return Group(names, session.reader("error", names), session.reader("value", names), wanted,
                 np.where(scale > 0, scale, whole), precision, slice(start, start + len(names)))  # fmt: skip
