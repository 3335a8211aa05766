"""What must be worked out at a tick: what no error has reached yet, or whose inputs did not change, is left out.

Nothing is approximated. Before the light cone an error is exactly zero, and so is what it sends; where predictions are
fixed and the step size is 1, an error changes at a tick only if a message changed that was due the tick before. What is
left out would have come out as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pcsim.engines.array.rows import inside
from pcsim.engines.base import gammas
from pcsim.graph.levels import light_cone

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from pcsim.arrays import Shape
    from pcsim.engines.base import Task
    from pcsim.graph.graph import Edge
    from pcsim.program.program import Program, Rows, Step

NEVER = np.iinfo(np.intp).max
"""The tick at which an error leaves zero that no error can reach."""


@dataclass(frozen=True)
class LineTraffic:
    """Lines of an inbox: those on which something new sets out at a tick, and those on which something new is due."""

    sent: np.ndarray
    due: np.ndarray


@dataclass(frozen=True)
class DelayedMessages:
    """Messages from the vertices of one group that travel for a tick or more: lines, rows of the senders, delays."""

    group: Shape
    lines: np.ndarray
    rows: np.ndarray
    delays: np.ndarray


@dataclass(frozen=True)
class Plan:
    """What may differ at a tick from what it was at the tick before.

    Attributes
    ----------
    active : steps, and which of their rows have an error that may differ
    reach : groups, and the rows of the active vertices
    moves : groups, and the free rows that what is due may move
    traffic : lines by group; None: all lines carry something
    """

    active: tuple[tuple[Step, Rows], ...]
    reach: tuple[tuple[Shape, Rows], ...]
    moves: tuple[tuple[Shape, Rows], ...]
    traffic: Mapping[Shape, LineTraffic] | None = None

    @cached_property
    def rows(self) -> dict[int, Rows]:
        """Active rows by step."""
        return {id(step): rows for step, rows in self.active}


class Schedule(Protocol):
    """Says for each tick what must be worked out."""

    def at(self, tick: int, /) -> Plan:
        """Return the plan of a tick."""

    def sends(self, name: str, tick: int, /) -> bool:
        """Return whether a vertex's messages of a tick are written down; else they are those of the tick before."""


def schedule(task: Task, program: Program) -> Schedule:
    """Return the schedule of a task: as little as its rule allows."""
    if task.initial or task.rule.fires.applies or task.graph.has_channels:
        return EveryRow(program)
    if task.rule.moving:
        cone = light_cone(task.graph, moving=True)
        first = {name: NEVER if tick is None else tick for name, tick in cone.items()}
        return LightConeSchedule(program, first)
    return _of_fixed_predictions(task, program)


def _of_fixed_predictions(task: Task, program: Program) -> Schedule:
    """Follow every change where that is fewer than half of what follows the light cone.

    A product that several vertices share is cut at its changes wherever it can be: however a graph is levelled, they
    are the same.
    """
    leaky = _leaky(task, program)
    found, horizon = changes(task, leaky)
    first = {name: _lowest(ticks) for name, ticks in found.items()}
    changing = sum(ticks.bit_count() for ticks in found.values())
    following = sum(max(0, horizon - tick) for tick in first.values())
    shared = not leaky and any(shares(step) for step in program.steps)
    if shared or 2 * changing < following:
        return ChangesOnlySchedule(program, found, horizon)
    return LightConeSchedule(program, first)


def changes(task: Task, leaky: Container[str]) -> tuple[dict[str, int], int]:
    """Return when each error can change under fixed predictions: {vertex: ticks as bits}, and the number of bits.

    An error at step size 1 and precision 1 becomes what was due the tick before; that of a leaky vertex keeps changing.
    """
    graph = task.graph
    longest: dict[str, int] = {}
    for name in reversed(graph.active):
        behind = (longest[edge.post] + 1 + edge.error_delay for edge in graph.outgoing[name])
        longest[name] = max(behind, default=0)
    # one tick after the last change, and one more that its moves look at
    horizon = min(task.ticks, max(longest.values(), default=0) + 1) + 2
    every = (1 << horizon) - 1
    found: dict[str, int] = {}
    for name in reversed(graph.active):
        ticks = int(graph.role(name) == "output")
        for edge in graph.outgoing[name]:
            ticks |= found[edge.post] << (1 + edge.error_delay)
        lowest = ticks & -ticks
        found[name] = (every & ~(lowest - 1) if ticks and name in leaky else ticks) & every
    return found, horizon


def _leaky(task: Task, program: Program) -> set[str]:
    """Return the free vertices that keep part of their error, or take only part of what is due."""
    found: set[str] = set()
    for group in program.groups.values():
        free = group.names[: group.free]
        rates = gammas(task, free)
        if group.precision is not None:
            off = np.any(group.precision[: group.free] != 1, axis=tuple(range(1, group.precision.ndim)))
        else:
            off = np.zeros(len(free), bool)
        found.update(name for name, keeps in zip(free, off | (rates != 1), strict=True) if keeps)
    return found


def _lowest(ticks: int) -> int:
    return (ticks & -ticks).bit_length() - 1 if ticks else NEVER


@dataclass(frozen=True)
class EveryRow:
    """Everything at every tick."""

    program: Program

    def at(self, _tick: int, /) -> Plan:
        """Return the plan of a tick: the one plan there is."""
        return self.plan

    def sends(self, _name: str, _tick: int, /) -> bool:
        """Return that all messages are written down."""
        return True

    @cached_property
    def plan(self) -> Plan:
        """The one plan there is."""
        groups = self.program.groups
        return Plan(
            tuple((step, slice(0, len(step.names))) for step in self.program.steps),
            tuple((shape, slice(0, group.active)) for shape, group in groups.items() if group.active),
            tuple((shape, slice(0, group.free)) for shape, group in groups.items() if group.free),
        )


@dataclass(frozen=True)
class RowSpan:
    """The narrowest slice that holds every row reached by a tick; ``when`` ascends."""

    when: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, tick: int) -> slice | None:
        """Return the slice; None while no row is reached."""
        count = int(np.searchsorted(self.when, tick, "right"))
        return slice(int(self.low[count - 1]), int(self.high[count - 1])) if count else None


def row_span(first: np.ndarray) -> RowSpan:
    """Return the hull of rows that are reached at these ticks.

    >>> row_span(np.array([5, 3, 3, 4])).at(4)
    slice(1, 4, None)
    """
    order = np.argsort(first, kind="stable")
    order = order[first[order] != NEVER]
    return RowSpan(first[order], np.minimum.accumulate(order), np.maximum.accumulate(order) + 1)


@dataclass(frozen=True)
class LightConeSchedule:
    """From the tick on at which an error can first leave zero, by slices: rows of a step are sorted by depth.

    A step whose vertices share an operand is one product over all of them, which may round otherwise when it is cut. It
    is worked out as a whole: where predictions move, an error of zero hangs on equal bits.
    """

    program: Program
    first: Mapping[str, int]
    plans: dict[int, Plan] = field(default_factory=dict)

    def at(self, tick: int) -> Plan:
        """Return the plan of a tick."""
        tick = min(tick, self.last)
        if tick not in self.plans:
            self.plans[tick] = self._plan(tick)
        return self.plans[tick]

    def sends(self, _name: str, _tick: int, /) -> bool:
        """Return that all messages are written down: before the light cone they are zero, as lines begin."""
        return True

    @cached_property
    def last(self) -> int:
        """The tick from which on nothing new is reached."""
        return max((tick for tick in self.first.values() if tick != NEVER), default=0)

    @cached_property
    def spans(self) -> dict[int, RowSpan]:
        """The hull of each step."""
        return {
            id(step): row_span(np.array([self.first[name] for name in step.names], np.intp))
            for step in self.program.steps
        }

    def _plan(self, tick: int) -> Plan:
        active = [(step, rows) for step in self.program.steps if (rows := self._reached(step, tick)) is not None]
        soon = [(step, rows) for step in self.program.steps if (rows := self._reached(step, tick + 1)) is not None]
        free = {shape: group.free for shape, group in self.program.groups.items()}
        moves = [(step, rows) for step, rows in soon if step.rows.start < free[step.shape]]
        return Plan(tuple(active), merged(active), merged(moves))

    def _reached(self, step: Step, tick: int) -> slice | None:
        rows = self.spans[id(step)].at(tick)
        return rows if rows is None or not shares(step) else slice(0, len(step.names))


def shares(step: Step) -> bool:
    """Return whether several vertices of a step use one row of some parameter."""
    used = [*(slot.rows for slot in step.parameters), *(slot.rows for slot in step.slots if slot.is_parameter)]
    counts = (rows.stop - rows.start if isinstance(rows, slice) else len(rows) for rows in used)
    return any(count != len(step.names) for count in counts)


def merged(active: Iterable[tuple[Step, slice]]) -> tuple[tuple[Shape, Rows], ...]:
    """Return the group rows of rows of steps: as one slice where that is at most twice as many, else as several."""
    found: dict[Shape, list[slice]] = {}
    for step, rows in sorted(active, key=lambda pair: pair[0].rows.start):
        here = slice(step.rows.start + rows.start, step.rows.start + rows.stop)
        slices = found.setdefault(step.shape, [])
        if slices and slices[-1].stop == here.start:
            here = slice(slices.pop().start, here.stop)
        slices.append(here)
    return tuple((shape, rows) for shape, slices in found.items() for rows in joined(slices))


def joined(slices: list[slice]) -> list[slice]:
    """Return ascending slices as one where that is at most twice as long."""
    whole = slice(slices[0].start, slices[-1].stop)
    length = sum(rows.stop - rows.start for rows in slices)
    return [whole] if whole.stop - whole.start <= 2 * length else slices


def covering(mask: np.ndarray, *, exactly: bool = False) -> Rows | None:
    """Return rows that cover those of a mask: a slice where that is at most twice as many; None for none.

    What is worked out again comes out as it was, but for products over several vertices: these are cut ``exactly``.

    >>> covering(np.array([False, True, False, True]))
    slice(1, 4, None)
    """
    index = np.nonzero(mask)[0]
    if not len(index):
        return None
    start, stop = int(index[0]), int(index[-1]) + 1
    whole = stop - start == len(index) or (not exactly and stop - start <= 2 * len(index))
    return slice(start, stop) if whole else index


@dataclass(frozen=True)
class ChangesOnlySchedule:
    """Only what changes: ``ticks`` holds {vertex: ticks as bits}, and after ``horizon`` nothing new begins or ends."""

    program: Program
    ticks: Mapping[str, int]
    horizon: int
    plans: dict[int, Plan] = field(default_factory=dict)

    def at(self, tick: int) -> Plan:
        """Return the plan of a tick."""
        tick = min(tick, self.horizon - 2)
        if tick not in self.plans:
            self.plans[tick] = self._plan(tick)
        return self.plans[tick]

    def sends(self, name: str, tick: int, /) -> bool:
        """Return whether a vertex's error changes at a tick."""
        return tick >= 0 and bool(self.ticks[name] >> min(tick, self.horizon - 2) & 1)

    @cached_property
    def bits(self) -> dict[Shape, np.ndarray]:
        """{group: (active rows, bytes)}: when each row changes, lowest bit first."""
        size = -(-self.horizon // 8)
        return {
            shape: np.frombuffer(
                b"".join(self.ticks[name].to_bytes(size, "little") for name in group.names[: group.active]), np.uint8
            ).reshape(group.active, size)
            for shape, group in self.program.groups.items()
        }

    @cached_property
    def delayed(self) -> dict[Shape, list[DelayedMessages]]:
        """The messages that travel, by the group that they are for."""
        return {
            shape: self._delayed([inbox.edges[number] for number in inbox.late])
            for shape, inbox in self.program.inboxes.items()
            if len(inbox.late)
        }

    def _delayed(self, edges: Sequence[Edge]) -> list[DelayedMessages]:
        found: dict[Shape, list[tuple[int, int, int]]] = {}
        for line, edge in enumerate(edges):
            group, row = self.program.location[edge.post]
            found.setdefault(group, []).append((line, row, edge.error_delay))
        return [DelayedMessages(group, *np.array(lines, np.intp).T) for group, lines in found.items()]

    def _plan(self, tick: int) -> Plan:
        active = [
            (step, rows)
            for step in self.program.steps
            if (rows := covering(self._changes(step.shape, step.rows, tick), exactly=shares(step))) is not None
        ]
        groups = self.program.groups
        moves = [
            (shape, rows)
            for shape, group in groups.items()
            if (rows := covering(self._changes(shape, slice(0, group.free), tick + 1))) is not None
        ]
        reach = [
            (shape, rows)
            for shape, group in groups.items()
            if (rows := covering(self._changes(shape, slice(0, group.active), tick))) is not None
        ]
        return Plan(tuple(active), tuple(reach), tuple(moves), self._traffic(active, tick))

    def _traffic(self, active: list[tuple[Step, Rows]], tick: int) -> dict[Shape, LineTraffic]:
        """Return the lines on which something sets out, new or again, and those on which something new is due."""
        sends = {shape: np.zeros(group.active, bool) for shape, group in self.program.groups.items()}
        for step, rows in active:
            sends[step.shape][inside(step.rows, rows)] = True
        return {
            shape: LineTraffic(
                np.concatenate([late.lines[sends[late.group][late.rows]] for late in found]),
                np.concatenate(
                    [late.lines[self._changes(late.group, late.rows, tick - late.delays)] for late in found]
                ),
            )
            for shape, found in self.delayed.items()
        }

    def _changes(self, shape: Shape, rows: Rows, tick: Any) -> np.ndarray:
        """Return which rows change at a tick (or each at its own); before the first tick nothing does."""
        bits = self.bits[shape][rows]
        if np.ndim(tick) == 0:
            return np.asarray(bits[:, tick >> 3] >> (tick & 7) & 1).astype(bool)
        past = np.maximum(tick, 0)
        found = bits[np.arange(len(bits)), past >> 3] >> (past & 7).astype(np.uint8) & 1
        return np.asarray((found == 1) & (tick >= 0))
