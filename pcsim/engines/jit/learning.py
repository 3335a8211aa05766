"""What vertices contribute to gradients: which of them, in which order, and which thread adds up which slice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array.learn import add_contributions, firing
from pcsim.engines.array.rows import indices, masked
from pcsim.engines.array.units import Work
from pcsim.engines.jit.kernels import dense
from pcsim.engines.jit.kernels.common import STEP
from pcsim.engines.jit.kinds import KINDS
from pcsim.engines.jit.projections import shares
from pcsim.engines.jit.readouts import inputs_of
from pcsim.program.program import Rows, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcsim.arrays import Shape
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.parts import Parts
    from pcsim.engines.jit.pool import ThreadPool
    from pcsim.engines.jit.segments import Compiled, Sharing
    from pcsim.engines.jit.table import WholeNumbers
    from pcsim.program.program import ParameterSlot, Slot

REMEMBERED = 1000
"""Ways in which steps contribute together that are remembered at most."""

Firing = list[tuple[Step, Rows]]
"""Steps, and which of their rows contribute at a tick."""


@dataclass(frozen=True)
class Accumulation:
    """How some rows of some steps contribute together, by slices of weights.

    Attributes
    ----------
    listed : what is to be written into the table before, and where: the vertices by weight, the first of each weight
    instructions : who adds up which slices
    blank : places of the table, and which of those behind them say that a weight is to be replaced
    """

    listed: list[tuple[int, WholeNumbers]]
    instructions: Compiled
    blank: list[tuple[int, WholeNumbers]]


class Learning:
    """Lets the parameters of a session take what vertices contribute.

    Attributes
    ----------
    parts : of which those with all samples are used
    work : about how many nanoseconds it takes on one thread
    """

    def __init__(
        self,
        layout: Layout,
        sharing: Sharing,
        pool: ThreadPool,
        parts: Parts,
        *,
        work: int,
    ) -> None:
        self.layout, self.arrays = layout, layout.arrays
        self.sharing, self.pool, self.table = sharing, pool, pool.table
        self.parts, self.work = parts, work
        self.ways: dict[tuple[tuple[int, bytes | tuple[int, int]], ...], list[Accumulation]] = {}
        """By the steps that contribute, and which of their rows."""
        self.fired: tuple[tuple[int, int], list[Firing]] = (0, 0), []
        """What fired from a tick to another: the last answer."""

    # -- which vertices -----------------------------------------------------------------------------------

    def catch_up(self, first: int, tick: int) -> None:
        """Take at ``tick`` what vertices would have contributed since ``first``: their errors have stayed."""
        rule = self.arrays.task.rule
        if rule.fires.waits or self.fired[0] != (first, tick + 1):
            self.fired = (first, tick + 1), list(self._fired_since(first, tick))
        for fired in self.fired[1]:
            with np.errstate(all="ignore"):
                self.accumulate(fired, tick)
            if not rule.fires.only_last:
                for step, rows in fired:
                    self.arrays.fire_ticks[id(step)][rows] = step.levels[rows]

    def _fired_since(self, first: int, tick: int) -> Iterator[Firing]:
        """Yield what fires from a tick to another: at once, or level by level where several steps must add up so."""
        at_once, by_level = self.orders
        if self.arrays.task.rule.fires.only_last:
            yield self._firing([*at_once, *by_level], first, tick)
            return
        yield self._firing(at_once, first, tick)
        levels = {int(level) for step in by_level for level in step.levels}
        for level in sorted(levels):
            if first <= level <= tick:
                yield self._firing(by_level, level, level)

    @cached_property
    def orders(self) -> tuple[list[Step], list[Step]]:
        """The steps that may contribute once for all levels, and those that must level by level.

        Contributions to a parameter add up in the order of levels: a step sorts its own, by weight; steps that share a
        parameter which learns at several levels, and array calls, take turns.
        """
        used = {id(step): users_of(step) for step in self.arrays.program.steps if step.learns}
        level: dict[tuple[Shape, int], int] = {}
        users: Counter[tuple[Shape, int]] = Counter()
        for pairs in used.values():
            for parameter, one in pairs:
                level[parameter] = one if level.get(parameter, one) == one else -1
            users.update({parameter for parameter, _ in pairs})

        def at_once(step: Step) -> bool:
            mixed = {parameter for parameter, _ in used[id(step)] if level[parameter] < 0}
            return not mixed or (self._sorts(step) and all(users[parameter] == 1 for parameter in mixed))

        steps = [step for step in self.arrays.program.steps if step.learns]
        return [step for step in steps if at_once(step)], [step for step in steps if not at_once(step)]

    def _sorts(self, step: Step) -> bool:
        """Return whether a step adds up what its vertices contribute to a weight in the order of their levels."""
        kind = KINDS.get(step.op.name)
        by_weight = kind is not None and kind.by_weight is not None and id(step) not in self.layout.array_steps
        return by_weight and not any(slot.is_parameter for slot in step.slots) and not shares_bias(step)

    def _firing(self, steps: Sequence[Step], first: int, tick: int) -> Firing:
        """Return which of these steps fire from a tick to another."""
        found = [(step, self._fired(step, first, tick)) for step in steps]
        return [(step, rows) for step, rows in found if rows is not None]

    def _fired(self, step: Step, first: int, tick: int) -> Rows | None:
        """Return which vertices of a step fire from ``first`` to ``tick``; None for none."""
        rule = self.arrays.task.rule
        if rule.fires.only_last:
            return firing(self.arrays, step, tick, last=True)
        fires = (first <= step.levels) & (step.levels <= tick)
        if rule.fires.waits:
            error = self.arrays.units[step.shape].error[step.rows]
            fires &= (error != 0).any(axis=tuple(range(1, error.ndim)))
        return masked(fires)

    # -- what they contribute -----------------------------------------------------------------------------

    def accumulate(self, fired: Sequence[tuple[Step, Rows]], tick: int) -> None:
        """Take what some rows of some steps contribute: by kernels where there are some."""
        by_weight = []
        for step, rows in fired:
            self.arrays.fire_ticks[id(step)][rows] = tick
            kind, array_step = KINDS.get(step.op.name), self.layout.array_steps.get(id(step))
            if array_step is not None:
                self._replace_blanks_of(step)
                array_step.accumulate(rows, tick)
            elif kind is not None and kind.by_neuron is not None:
                self._by_neuron(kind.by_neuron, step, rows, tick)
            elif kind is not None and kind.by_weight is not None:
                by_weight.append((kind.by_weight, step, rows))
            else:
                self._by_array_call(step, rows, tick)
        if by_weight:
            self._by_weight(by_weight)
            if self.parts.faulty_update():
                for _, step, rows in by_weight:
                    self._by_array_call(step, rows, tick)  # names what is not finite

    def _by_array_call(self, step: Step, rows: Rows, tick: int) -> None:
        """Take what some rows of a step contribute by its op's own derivatives."""
        self._replace_blanks_of(step)
        inputs = inputs_of(self.layout, step)
        mu, saved = step.op.forward(np, step.call, self.arrays.params[id(step)], inputs)
        self.arrays.work[id(step)] = Work(inputs, mu, saved, 0, len(step.names))
        add_contributions(self.arrays, step, rows, tick)

    def _by_neuron(self, kernel: Any, step: Step, rows: Rows, tick: int) -> None:
        """Take what projections contribute, one after the other; each synapse has one thread."""
        blocks, place = self.layout.projections[id(step)].forward, self.layout.steps[id(step)]
        ends, count = blocks.shares(self.sharing.threads), len(blocks.bounds) - 1
        lines = [self.sharing.between(kernel, place, row * count + ends) for row in indices(rows)]
        self._run(self.sharing.compiled(lines), tick)
        if not all(np.isfinite(self.layout.learnt(slot.shape)).all() for slot in step.parameters):
            self._by_array_call(step, rows, tick)

    def _by_weight(self, fired: Sequence[tuple[Any, Step, Rows]]) -> None:
        """Take what rows contribute, each slice of a weight on one thread, threads with about equal work."""
        key = tuple((id(step), which(rows)) for _, step, rows in fired)
        ways = self.ways.get(key)
        if ways is None:
            if len(self.ways) >= REMEMBERED:
                self.ways.clear()
            ways = self.ways[key] = [self._accumulation(wave) for wave in waves(fired)]
        for way in ways:
            for place, listed in way.listed:
                self.table[place : place + len(listed)] = listed
            self._run(way.instructions, 0)
            for place, rows in way.blank:
                self.table[place + rows] = 0

    def _run(self, segment: Compiled, tick: int) -> None:
        self.pool.run(segment.numbers, self.parts.whole, 0, tick, tick + 1, work=self.work, in_step=False)

    def _accumulation(self, wave: Sequence[tuple[Any, Step, Rows]]) -> Accumulation:
        """Return how rows contribute: slices of weights one after the other, cut into equal shares of work."""
        orders = [by_weight(step, rows) for _, step, rows in wave]
        loads = [slice_loads(step, order) for (_, step, _), order in zip(wave, orders, strict=True)]
        ends = shares(np.concatenate(loads), self.sharing.threads)
        lines, listed, blank = [], [], []
        for (kernel, step, _), order, load in zip(wave, orders, loads, strict=True):
            mine, place = np.clip(ends, 0, len(load)), self.layout.steps[id(step)]
            if shares_bias(step):
                mine[1:] = len(load)
            lines.append(self.sharing.between(kernel, place, mine))
            listed += self._listed(step, place, order)
            blank.append((self.layout.blank[parameters_of(step)["weight"].shape], weights_of(step)[order]))
            ends = ends - len(load)
        return Accumulation(listed, self.sharing.compiled(lines), blank)

    def _listed(self, step: Step, place: int, order: WholeNumbers) -> list[tuple[int, WholeNumbers]]:
        """Return where it is to be written which vertices contribute, and which is the first of each weight."""
        learner = KINDS[step.op.name].learner
        layer = learner.view(self.table, int(STEP.view(self.table, place)["own"][0]))
        starts = np.flatnonzero(np.diff(weights_of(step)[order], prepend=-1))
        return [(int(layer["users"][0]), order), (int(layer["starts"][0]), np.append(starts, len(order)))]

    def replace_blanks(self, shapes: Iterable[Shape] | None = None) -> None:
        """Set what parameters have learnt to zero where it was left as it lay, to be replaced; None: of all shapes."""
        for shape in self.layout.blank.keys() & shapes if shapes is not None else self.layout.blank:
            learnt, place = self.arrays.learnt[shape], self.layout.blank[shape]
            flags = self.table[place : place + len(learnt)]
            if flags.any():
                learnt[flags != 0] = 0
                flags[:] = 0

    def _replace_blanks_of(self, step: Step) -> None:
        """Do so for the parameters of a step: others may still be replaced by their first contributor."""
        self.replace_blanks({shape for (shape, _), _ in users_of(step)})


def which(rows: Rows) -> bytes | tuple[int, int]:
    """Return what tells rows apart."""
    return (rows.start, rows.stop) if isinstance(rows, slice) else rows.tobytes()


def parameters_of(step: Step) -> dict[str, ParameterSlot]:
    """Return the parameters of a step by what they are to its op."""
    return {slot.name: slot for slot in step.parameters}


def rows_of(step: Step, slot: ParameterSlot | Slot) -> WholeNumbers:
    """Return which of the parameters of its shape each vertex uses."""
    rows: np.ndarray = np.broadcast_to(indices(slot.rows), len(step.names))
    return rows


def weights_of(step: Step) -> WholeNumbers:
    """Return which weight each vertex uses."""
    return rows_of(step, parameters_of(step)["weight"])


def by_weight(step: Step, rows: Rows) -> WholeNumbers:
    """Return rows of a step in the order of the weights that they contribute to, for each in that of their levels."""
    order: np.ndarray = indices(rows)[np.lexsort((step.levels[rows], weights_of(step)[rows]))]
    return order


def users_of(step: Step) -> set[tuple[tuple[Shape, int], int]]:
    """Return the parameters that a step contributes to, by shape and row, each with a level at which it does."""
    slots: list[ParameterSlot | Slot] = [*step.parameters, *(slot for slot in step.slots if slot.is_parameter)]
    levels = step.levels.tolist()
    return {
        ((slot.shape, row), level)
        for slot in slots
        for row, level in zip(rows_of(step, slot).tolist(), levels, strict=True)
    }


def slice_loads(step: Step, order: WholeNumbers) -> WholeNumbers:
    """Return the work of each slice of each weight that learns."""
    users = np.unique(weights_of(step)[order], return_counts=True)[1]
    return np.repeat(users * int(step.op.cost(step.call).multiply_adds), dense.SLICES)


def shares_bias(step: Step) -> bool:
    """Return whether vertices with different weights share a bias; one thread must then take all contributions."""
    bias = parameters_of(step).get("bias")
    if bias is None:
        return False
    biases = rows_of(step, bias)
    pairs = set(zip(weights_of(step).tolist(), biases.tolist(), strict=True))
    return len(pairs) > len(np.unique(biases))


def waves(fired: Sequence[tuple[Any, Step, Rows]]) -> Iterator[list[tuple[Any, Step, Rows]]]:
    """Cut what fires into runs such that no two steps of a run contribute to the same parameter."""
    wave: list[tuple[Any, Step, Rows]] = []
    taken: set[tuple[Shape, int]] = set()
    for kernel, step, rows in fired:
        mine = {(slot.shape, int(row)) for slot in step.parameters for row in np.unique(indices(slot.rows))}
        if mine & taken:
            yield wave
            wave, taken = [], set()
        wave.append((kernel, step, rows))
        taken |= mine
    yield wave
