"""What vertices teach: which of them, in which order, and which thread adds up which slice of a weight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array.rows import indices, masked
from pcsim.engines.array.units import Work
from pcsim.engines.jit import common, dense, population, wiring
from pcsim.engines.jit.firing import only_last, waits
from pcsim.engines.jit.layout import KINDS
from pcsim.program.program import Rows, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pcsim.arrays import Shape
    from pcsim.engines.array.session import ArraySession
    from pcsim.engines.jit.driver import Crew
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.scripts import Scripts
    from pcsim.program.program import ParameterSlot, Slot

KEPT = 1000
"""Lessons that are remembered at most."""

Firing = list[tuple[Step, Rows]]


@dataclass(frozen=True)
class Lesson:
    """How steps teach: which vertices, by weight, and where that is listed; the script; which weights were taught."""

    listed: list[tuple[int, np.ndarray]]
    script: np.ndarray
    taught: list[tuple[int, np.ndarray]]


class Teaching:
    """Lets the vertices of a session teach their parameters."""

    def __init__(
        self,
        rare: ArraySession,
        places: Layout,
        scripts: Scripts,
        crew: Crew,
        whole: np.ndarray,
        inputs: Callable[[Step], tuple[np.ndarray, ...]],
        *,
        work: int,
    ) -> None:
        self.rare, self.places, self.scripts, self.crew, self.table = rare, places, scripts, crew, crew.table
        self.whole, self.inputs, self.work = whole, inputs, work
        self.lessons: dict[tuple[tuple[int, bytes | tuple[int, int]], ...], list[Lesson]] = {}
        """By the steps that teach, and which of their rows."""
        self.fired: tuple[tuple[int, int], list[Firing]] = (0, 0), []
        """What fired by level, or at the end, from a tick to another: the last answer."""

    def late(self, first: int, tick: int) -> None:
        """Let vertices teach at ``tick`` what they would have taught since ``first``: their errors have stayed."""
        rule = self.rare.task.rule
        if waits(rule) or self.fired[0] != (first, tick + 1):
            spans = [(first, tick)] if only_last(rule) else self._spans(first, tick)
            self.fired = (first, tick + 1), [self._firing(*span) for span in spans]
        for firing in self.fired[1]:
            with np.errstate(all="ignore"):
                self.teach(firing, tick)
            if not only_last(rule):
                for step, rows in firing:
                    self.rare.fire_ticks[id(step)][rows] = step.levels[rows]

    def _spans(self, first: int, tick: int) -> list[tuple[int, int]]:
        """Return all ticks as one span, or one for each level where lessons of several levels add up in their order."""
        if not self.mixed:
            return [(first, tick)]
        levels = {int(level) for step in self.rare.program.steps for level in step.levels}
        return [(level, level) for level in sorted(levels) if first <= level <= tick]

    @cached_property
    def mixed(self) -> bool:
        """Whether some parameter learns at more than one level."""
        taught: dict[tuple[Shape, int], int] = {}
        for step in self.rare.program.steps:
            slots: list[ParameterSlot | Slot] = [*step.parameters, *(slot for slot in step.slots if slot.is_parameter)]
            for slot in slots:
                for row, level in zip(rows_of(step, slot).tolist(), step.levels.tolist(), strict=True):
                    if taught.setdefault((slot.shape, row), level) != level:
                        return True
        return False

    def _firing(self, first: int, tick: int) -> Firing:
        """Return what fires from a tick to another."""
        found = [(step, self._fired(step, first, tick)) for step in self.rare.program.steps if step.learns]
        return [(step, rows) for step, rows in found if rows is not None]

    def _fired(self, step: Step, first: int, tick: int) -> Rows | None:
        """Return which vertices of a step fire from ``first`` to ``tick``; None for none."""
        rule = self.rare.task.rule
        if only_last(rule):
            return slice(0, len(step.names))
        fires = (first <= step.levels) & (step.levels <= tick)
        if waits(rule):
            error = self.rare.units[step.shape].error[step.rows]
            fires &= (error != 0).any(axis=tuple(range(1, error.ndim)))
        return masked(fires)

    def teach(self, firing: Sequence[tuple[Step, Rows]], tick: int) -> None:
        """Let some rows of some steps teach: compiled where there is a kernel."""
        compiled = []
        for step, rows in firing:
            self.rare.fire_ticks[id(step)][rows] = tick
            if array_step := self.places.array_steps.get(id(step)):
                self.fill_blanks()
                array_step.accumulate(rows, tick)
                continue
            kernel = KINDS[step.op.name].learn
            if kernel is None:
                self._teach_rarely(step, rows, tick)
            elif kernel is population.learn:
                self._teach_population(step, rows, tick)
            else:
                compiled.append((kernel, step, rows))
        if compiled:
            self._teach_compiled(compiled)
            if any(self.table[part + common.FAULT] for part in self.whole):
                for _, step, rows in compiled:
                    self._teach_rarely(step, rows, tick)

    def _teach_population(self, step: Step, rows: Rows, tick: int) -> None:
        """Let projections teach, one after the other; each synapse has one thread."""
        wired = next(wired for wired in self.places.wired if wired.step is step)
        blocks, at = wired.forward, self.places.steps[id(step)]
        ends = blocks.shares(self.scripts.threads)
        script = [
            self.scripts.share(population.learn, at, row * (len(blocks.bounds) - 1) + ends) for row in indices(rows)
        ]
        self.crew.play(np.array(script, np.int64), self.whole, 0, tick, tick + 1, work=self.work, together=False)
        if not all(np.isfinite(self.places.learnt(slot.shape)).all() for slot in step.parameters):
            self._teach_rarely(step, rows, tick)

    def _teach_rarely(self, step: Step, rows: Rows, tick: int) -> None:
        """Let some rows of a step teach by its op's own derivatives."""
        self.fill_blanks()
        inputs = self.inputs(step)
        mu, saved = step.op.forward(np, step.call, self.rare.params[id(step)], inputs)
        self.rare.work[id(step)] = Work(inputs, mu, saved, 0, len(step.names))
        self.rare.add_contributions(step, rows, tick)

    def _teach_compiled(self, firing: Sequence[tuple[Any, Step, Rows]]) -> None:
        """Let rows teach, each slice of a weight on one thread, threads with about equal work."""
        key = tuple((id(step), which(rows)) for _, step, rows in firing)
        lessons = self.lessons.get(key)
        if lessons is None:
            if len(self.lessons) >= KEPT:
                self.lessons.clear()
            lessons = self.lessons[key] = [self._lesson(wave) for wave in waves(firing)]
        for lesson in lessons:
            for place, listed in lesson.listed:
                self.table[place : place + len(listed)] = listed
            self.crew.play(lesson.script, self.whole, 0, 0, 1, work=self.work, together=False)
            for place, rows in lesson.taught:
                self.table[place + rows] = 0

    def _lesson(self, wave: Sequence[tuple[Any, Step, Rows]]) -> Lesson:
        """Return how rows teach: slices of weights one after the other, cut into equal shares of work."""
        orders = [lesson_order(step, rows) for _, step, rows in wave]
        loads = [slice_loads(step, order) for (_, step, _), order in zip(wave, orders, strict=True)]
        ends = wiring.shares(np.concatenate(loads), self.scripts.threads)
        script, listed, taught = [], [], []
        for (kernel, step, _), order, load in zip(wave, orders, loads, strict=True):
            mine, at = np.clip(ends, 0, len(load)), self.places.steps[id(step)]
            if shares_bias(step):
                mine[1:] = len(load)
            script.append(self.scripts.share(kernel, at, mine))
            users = self.table[at + common.OWN] + dense.WEIGHTS + dense.COLUMNS * len(step.names)
            listed.append((int(users), by_weight(step, order)))
            taught.append((self.places.blank[parameters_of(step)["weight"].shape], weights_of(step)[order]))
            ends = ends - len(load)
        return Lesson(listed, np.array(script, np.int64), taught)

    def fill_blanks(self) -> None:
        """Set what parameters have learnt to zero where it was left as it lay, to be replaced."""
        for shape, place in self.places.blank.items():
            learnt = self.rare.learnt[shape]
            flags = self.table[place : place + len(learnt)]
            learnt[flags != 0] = 0
            flags[:] = 0


def which(rows: Rows) -> bytes | tuple[int, int]:
    """Return what tells rows apart."""
    return (rows.start, rows.stop) if isinstance(rows, slice) else rows.tobytes()


def parameters_of(step: Step) -> dict[str, ParameterSlot]:
    """Return the parameters of a step by what they are to its op."""
    return {slot.name: slot for slot in step.parameters}


def rows_of(step: Step, slot: ParameterSlot | Slot) -> np.ndarray:
    """Return which row of its bank each vertex's parameter is."""
    rows: np.ndarray = np.broadcast_to(indices(slot.rows), len(step.names))
    return rows


def weights_of(step: Step) -> np.ndarray:
    """Return which row of its bank each vertex's weight is."""
    return rows_of(step, parameters_of(step)["weight"])


def lesson_order(step: Step, rows: Rows) -> np.ndarray:
    """Return rows of a step in the order of the weights that they teach."""
    order: np.ndarray = indices(rows)[np.argsort(weights_of(step)[rows], kind="stable")]
    return order


def by_weight(step: Step, order: np.ndarray) -> np.ndarray:
    """Return the vertices that teach, filled up to all, then the first of each weight and the end."""
    used = weights_of(step)[order]
    starts = np.flatnonzero(np.diff(used, prepend=-1))
    return np.concatenate([order, np.zeros(len(step.names) - len(order), np.int64), starts, [len(order)]])


def slice_loads(step: Step, order: np.ndarray) -> np.ndarray:
    """Return the work of each slice of each weight that is taught."""
    users = np.unique(weights_of(step)[order], return_counts=True)[1]
    return np.repeat(users * prod(parameters_of(step)["weight"].shape), dense.SLICES)


def shares_bias(step: Step) -> bool:
    """Return whether vertices with different weights share a bias; one thread must teach them all."""
    bias = parameters_of(step).get("bias")
    if bias is None:
        return False
    biases = rows_of(step, bias)
    pairs = set(zip(weights_of(step).tolist(), biases.tolist(), strict=True))
    return len(pairs) > len(np.unique(biases))


def waves(firing: Sequence[tuple[Any, Step, Rows]]) -> Iterator[list[tuple[Any, Step, Rows]]]:
    """Cut what fires into runs such that no two steps of a run teach the same parameter."""
    wave: list[tuple[Any, Step, Rows]] = []
    taught: set[tuple[Shape, int]] = set()
    for kernel, step, rows in firing:
        mine = {(slot.shape, int(row)) for slot in step.parameters for row in np.unique(indices(slot.rows))}
        if mine & taught:
            yield wave
            wave, taught = [], set()
        wave.append((kernel, step, rows))
        taught |= mine
    yield wave
