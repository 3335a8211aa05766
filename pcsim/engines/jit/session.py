"""The compiled engine: the state of an array session, played by kernels, many ticks at once where no one looks.

What is rare stays with the array session, on the same arrays: reading, reporting, ops that teach without a kernel.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Unpack

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.array.schedule import EveryRow
from pcsim.engines.array.session import ArraySession
from pcsim.engines.array.units import Work
from pcsim.engines.base import begun_again, tick_by_tick
from pcsim.engines.jit import common, dense, driver, flow, wiring
from pcsim.engines.jit.driver import Crew
from pcsim.engines.jit.layout import Layout, suits
from pcsim.engines.jit.native import address_of
from pcsim.engines.jit.norms import OPERANDS, Norms
from pcsim.engines.jit.products import SLAB
from pcsim.engines.jit.scripts import Scripts
from pcsim.engines.jit.teaching import Teaching
from pcsim.engines.threads import threads_said, threads_wanted
from pcsim.engines.updates_only import updates_only
from pcsim.errors import RunError, wrong
from pcsim.graph.levels import uneven_edges
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Given, Read, Session, Task
    from pcsim.engines.jit.wiring import Wired
    from pcsim.engines.state import State
    from pcsim.program.program import Slot, Step

LONG_AGO = -(1 << 40)
"""A tick before every run."""


class JitSession:
    """A run whose ticks are compiled."""

    def __init__(self, rare: ArraySession) -> None:
        self.rare, self.task = rare, rare.task
        self.work = work_of(rare)
        self.threads, self.by_sample = self._threads()
        self.flowing = self.by_sample and flow.flows(rare.program)
        self.places = Layout(rare, self.flowing)
        self.settles = settles(rare)
        rare.plans = EveryRow(rare.program)
        rare.plan = rare.plans.plan
        self.like = np.zeros(1, self.task.dtype)
        self._lay_out_parts()
        self.scripts = Scripts(rare, self.places, self.threads, by_sample=self.by_sample, flowing=self.flowing)
        noted = self.places.table.add([0] * OPERANDS)
        self.table = self.places.table.array()
        self.crew = Crew(self.threads, self.like, self.table)
        self.teaching = Teaching(rare, self.places, self.scripts, self.crew, self.whole, self._inputs, work=self.work)
        self.norms = Norms(self.scripts, self.crew, self.parts, noted)
        self.sources = [
            (*rare.program.location[name], name) for name in self.task.inputs if name in rare.program.location
        ]
        self.unwatched = {wired.step.shape for wired in self.places.wired}
        """Banks in which a vertex may end in the sweep without a note."""
        self._pack()
        self._forget()
        self._begin()

    # -- threads ----------------------------------------------------------------------------------------

    def _threads(self) -> tuple[int, bool]:
        """Return how many threads play, and whether they share out the samples, or else the vertices, in step."""
        most = threads_wanted()
        if self.task.batch >= 2 * most:
            return threads_said() or sharers(self.rare, most), True
        return (most, False) if self.work > driver.WORTH_SHARING else (1, True)

    def _lay_out_parts(self) -> None:
        """Lay out what each thread has of its own: samples, scratch, notes of who moved."""
        layout, threads, batch = self.places, self.threads, self.task.batch
        region = batch * layout.widest + SLAB
        bounds = np.linspace(0, batch, threads + 1).astype(int) if self.by_sample else None
        self.notes = [self._notes() for _ in range(threads if self.by_sample else 1)]
        places: dict[str, list[int]] = {"parts": [], "whole": []}
        for thread in range(threads):
            scratch = address_of(layout.new(4 * region))
            mine = self.notes[thread if self.by_sample else 0]
            low, high = (0, batch) if bounds is None else (int(bounds[thread]), int(bounds[thread + 1]))
            for name, first, last in (("parts", low, high), ("whole", 0, batch)):
                places[name].append(layout.table.add([first, last, scratch, region, *mine, 0, 0, 0, layout.active]))
        self.parts, self.whole = (np.array(places[name], np.int64) for name in ("parts", "whole"))

    def _notes(self) -> tuple[int, ...]:
        """Lay out who has moved, whose error may have changed, when late messages last changed, what rings hold."""
        table, layout = self.places.table, self.places
        moved, woke = (table.add(np.zeros(layout.vertices, np.int64)) for _ in range(2))
        return (
            moved,
            woke,
            *(table.add(np.zeros(count, np.int64)) for count in (layout.late_messages, layout.ring_notes)),
        )

    def _run(self, script: np.ndarray, mode: int, first: int, end: int | None = None) -> None:
        """Play a script at ticks ``first`` to ``end - 1``; threads are woken where that is worth while."""
        last = first + 1 if end is None else end
        sweeps = 1 if self.settles else last - first
        self.crew.play(script, self.parts, mode, first, last, work=self.work * sweeps, together=not self.by_sample)

    # -- start ------------------------------------------------------------------------------------------

    def restart(self, **given: Unpack[Given]) -> None:
        """Begin again at tick 0; what is not given stays."""
        rare = self.rare
        self.task = rare.task = begun_again(self.task, **given)
        if given.get("parameters") is not None or self.task.rule.fires.applies:
            rare.fill(self.task)
            self._pack()
        self._forget()
        self._begin()

    def compare_with(self, references: Mapping[str, np.ndarray] | None) -> None:
        """Say what errors are compared with."""
        self.rare.compare_with(references)

    def snapshot(self) -> State:
        """Return the state before the next tick."""
        raise wrong("state", "engine 'numba' does not keep states yet")

    def load(self, _state: State, /) -> None:
        """Go on from a state of this task, whichever engine it is from."""
        raise wrong("state", "engine 'numba' does not keep states yet")

    def buffers(self) -> dict[str, np.ndarray]:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        return self.rare.buffers()

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex."""
        return dict.fromkeys(self.task.graph.active, "numba")

    def _forget(self) -> None:
        """Forget the run; what is written before it is read may stay."""
        rare = self.rare
        rare.tick = 0
        rare.applied.clear()
        rare.frozen_at.clear()
        summed = [self.places.sent[shape] for shape, post in rare.program.inboxes.items() if post.direct is None]
        learnt = [array for shape, array in rare.learnt.items() if shape not in self.places.blank]
        for array in (*learnt, *rare.histories.values(), *rare.lines.values(), *summed):
            array[...] = 0
        for shape, place in self.places.blank.items():
            self.table[place : place + len(rare.learnt[shape])] = 1
        for units in rare.units.values():
            units.targets = ()
            for array in (units.deviation, units.shift, units.error) if self.task.rule.moving else (units.deviation,):
                array[...] = 0
        for taught in rare.fire_ticks.values():
            taught[...] = -1

    def _pack(self) -> None:
        """Pack the weights of layers, bundles and populations for their products."""
        self.crew.play(self.scripts.arranging, self.whole, 0, 0, 1, work=self.work, together=False)
        for bundle in self.places.bundles:
            bundle.pack(self.rare.theta[bundle.weight.shape])
        for packed in self.places.packed:
            dense.pack_all(self.rare.theta[packed.shape], packed.rows, packed.forward, packed.backward)

    def _begin(self) -> None:
        """Sweep forward, clamp the outputs and set the values at tick 0."""
        rare, task = self.rare, self.task
        moving = task.rule.moving
        for shape, row, name in self.sources:
            rare.units[shape].start[row] = task.inputs[name]
        self._forget_faults()
        self._run(self.scripts.sweeping, common.SWEEP, 0)
        if self._ended() or not all(rare.finite(rare.units[shape].start) for shape in self.unwatched):
            ArraySession(task, np)  # names the vertex and the value
        for units in rare.units.values():
            rare.set_initial(units)
            if moving:
                units.value[units.group.active :] = units.start[units.group.active :]
        for loss, units, rows, target in rare.outputs():
            units.deviation[rows] = loss_error(loss, units.start[rows], target)
            if not LOSSES[loss].clamps and moving:
                units.targets += ((loss, rows, target),)
        self._clear_rings()
        for name, array in self.places.targets.items():
            array[...] = task.targets[name]
        if moving:
            self._run(self.scripts.preparing, common.ALL, 0)
        self._note_moved(everyone=False)

    def _clear_rings(self) -> None:
        """Begin the rings of projections: no error, feedforward values."""
        for ring in self.places.rings:
            ring[...] = 0
        for (shape, row), past in self.places.pasts.items():
            past.values[...] = self.rare.units[shape].start[row]
        self._note_rings(LONG_AGO)

    def _note_rings(self, tick: int) -> None:
        """Note that rings last changed at this tick, and that nothing in them is zero where it is later."""
        for *_, rings in self.notes:
            self.table[rings : rings + self.places.ring_notes] = tick

    def _note_moved(self, *, everyone: bool, tick: int = LONG_AGO) -> None:
        """Note who may have moved since they last acted: everyone, or who is not at its feedforward value."""
        table, layout = self.table, self.places
        for moved, woke, heard, _ in self.notes:
            table[moved : moved + layout.vertices] = everyone
            table[woke : woke + layout.vertices] = everyone
            table[heard : heard + layout.late_messages] = tick
            if not everyone:
                for shape, units in self.rare.units.items():
                    first = 0 if self.task.initial else units.group.free
                    away = (units.deviation[first:] != 0).any(axis=tuple(range(1, units.deviation.ndim)))
                    table[moved + layout.first[shape] + first :][: len(away)] = away

    # -- one tick ---------------------------------------------------------------------------------------

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors."""
        rare, moving = self.rare, self.task.rule.moving
        rare.tick = tick
        if rare.may_freeze:
            self._check("value", "deviation", tick)
        if moving:
            self._run(self.scripts.preparing, common.ALL, tick)
            self._run(self.scripts.acting, common.PREDICT | common.ALL, tick)
        self._run(self.scripts.remembering, 0, tick)
        self._check("error", "error", tick)

    def send(self, tick: int) -> None:
        """Compute the error messages of this tick."""
        self._run(self.scripts.acting, common.SEND | common.ALL, tick)

    def deliver(self, tick: int) -> None:
        """Take the error messages due, and sum them by receiver."""
        self._run(self.scripts.delivering, 0, tick)
        self._check("error", "received", tick, due=1)

    def move(self) -> None:
        """Move the free values to the next tick."""
        self._run(self.scripts.staying, 0, self.rare.tick)
        self._note_moved(everyone=True, tick=self.rare.tick)

    # -- many ticks -------------------------------------------------------------------------------------

    def advance(
        self, first: int, end: int, *, last: bool, squares: np.ndarray | None = None, apart: np.ndarray | None = None
    ) -> None:
        """Play ticks ``first`` to ``end - 1`` in one compiled call where the rule allows it."""
        if apart is not None or not self._plays_through():
            tick_by_tick(self, first, end, last=last, measure=self.rare.measuring(first, squares, apart))
            return
        before = self._kept() if first else {}
        learns = last or not self.task.rule.fires.only_last
        script, mode = self.scripts.ticking, common.SEND | common.PREDICT * self.task.rule.moving
        if squares is not None:
            self.norms.begin(first, end - first)
            script, mode = self.scripts.noting, mode | common.NOTE
        self._run(script, mode, first, end - learns)
        try:
            if learns and not self._ended():
                self._finish(first, end - 1, noting=squares is not None)
        except RunError:
            self._explain(before, first, end, last=last)  # names what ended first, which need not be the update
            raise
        if self._ended():
            self._explain(before, first, end, last=last)
        if squares is not None:
            self.norms.take(squares)

    def _plays_through(self) -> bool:
        """Return whether nothing is learnt before the last tick that would not be the same then."""
        rule = self.task.rule
        return self.settles if rule.fires.at_front else rule.fires.only_last

    def _finish(self, first: int, tick: int, *, noting: bool) -> None:
        """Play the last tick: between predicting and moving, parameters learn."""
        self.rare.tick = tick
        if self.task.rule.moving:
            self._run(self.scripts.acting, common.PREDICT, tick)
        if noting and (tick == first or self.scripts.measures):
            self._run(self.scripts.measuring, 0, tick)
        self.teaching.late(first, tick)
        self._run(self.scripts.ticking, common.SEND, tick)

    def _kept(self) -> dict[str, list[np.ndarray]]:
        """Return a copy of the state, by which what went wrong can be told."""
        return {name: [array.copy() for array in arrays] for name, arrays in self._state().items()}

    def _state(self) -> dict[str, list[np.ndarray]]:
        rare = self.rare
        units = [
            array for units in rare.units.values() for array in (units.deviation, units.shift) if array is not None
        ]
        flying = {"lines": list(rare.lines.values()), "histories": list(rare.histories.values())}
        return {"units": units, **flying, "rings": self.places.rings}

    def _explain(self, before: dict[str, list[np.ndarray]], first: int, end: int, *, last: bool) -> None:
        """Play again, tick by tick with every check, what has ended in numbers that are not finite."""
        if first == 0:
            self.restart()
        for name, arrays in before.items():
            for array, kept in zip(self._state()[name], arrays, strict=True):
                array[...] = kept
        for array in self.rare.learnt.values():
            array[...] = 0
        self._forget_faults()
        self._note_rings(first)
        self._note_moved(everyone=True, tick=first)
        tick_by_tick(self, first, end, last=last)

    def _ended(self) -> bool:
        """Return whether some numbers have ended."""
        return any(self.table[part + common.FAULT] for part in self.parts)

    def _forget_faults(self) -> None:
        for part in (*self.parts, *self.whole):
            self.table[part + common.FAULT] = 0

    # -- learn ------------------------------------------------------------------------------------------

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""
        rare = self.rare
        with np.errstate(all="ignore"):
            firing = [(step, rare.firing(step, tick, last=last)) for step in rare.program.steps if step.learns]
            self.teaching.teach([(step, rows) for step, rows in firing if rows is not None], tick)
            if self.task.rule.fires.applies:
                self.teaching.fill_blanks()
                rare.apply()
                self._pack()

    def _inputs(self, step: Step) -> tuple[np.ndarray, ...]:
        """Return what a step has taken as inputs in this tick, (vertices, batch, *shape) each."""
        return tuple(self._input(slot) for slot in step.slots)

    def _input(self, slot: Slot) -> np.ndarray:
        if slot.is_parameter:
            rows: np.ndarray = self.rare.theta[slot.shape][slot.rows][:, None]
            return rows
        units = self.rare.units[slot.shape]
        found: np.ndarray = (units.value if self.task.rule.moving else units.start)[slot.rows]
        if (late := self.places.late_values.get(id(slot))) is not None and slot.late is not None:
            found = found.copy()
            found[slot.late.positions] = late
        elif slot.late is not None and self.task.rule.moving:
            found = found.copy()
            rows = indices(slot.rows)
            for position, delay in zip(slot.late.positions, slot.late.delay, strict=True):
                past = self.places.pasts[slot.shape, int(rows[position])].values
                found[position] = past[(self.rare.tick - delay) % len(past)]
        return found

    # -- checks and reading -----------------------------------------------------------------------------

    def _check(self, what: str, name: str, tick: int, due: int = 0) -> None:
        """Name what is not finite, or put it to rest, as the array session does."""
        rare = self.rare
        where = [
            (shape, slice(0, len(array))) for shape, units in rare.units.items() if (array := getattr(units, name)).size
        ]
        if all(rare.finite(getattr(rare.units[shape], name)) for shape, _ in where):
            return
        for step in rare.program.steps:
            rare.work[id(step)] = Work(self._inputs(step), None, (), 0, len(step.names))
        rare.check(what, name, where, tick, due)

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by bank."""
        return self.rare.layout()

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices, or of edges for messages."""
        read = self.rare.reader(quantity, names)
        wanted = self._summed(names) if quantity == "error message" else {}
        if not wanted:
            return read

        def worked_out() -> np.ndarray:
            found = np.array(read())
            for place, (wired, kind, row) in wanted.items():
                found[place] = wiring.message(self.places, wired, kind, row, self.rare.tick)
            return found

        return worked_out

    def _summed(self, names: Sequence[str]) -> dict[int, tuple[Wired, int, int]]:
        """Return the edges, by place, whose messages a projection sums itself: step, delay and vertex."""
        found = {
            edge.name: (wired, kind, row)
            for wired in self.places.wired
            for kind, slot in enumerate(wired.step.slots)
            for row, edge in enumerate(slot.edges)
        }
        return {place: found[name] for place, name in enumerate(names) if name in found}

    def updates(self) -> dict[str, np.ndarray]:
        """Return what each parameter has learnt."""
        self.teaching.fill_blanks()
        return self.rare.updates()

    def parameters(self) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self.rare.parameters()

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex taught its parameters."""
        return self.rare.fired()

    def frozen(self) -> dict[str, int]:
        """Return the vertices whose numbers ended after they had taught, and the tick."""
        return self.rare.frozen()


def loss_error(loss: str, mu: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the error of outputs as kernels compute it in a tick, (rows, batch, *shape)."""
    if loss != "cross_entropy":
        found: np.ndarray = LOSSES[loss].error(np, mu, target)
        return found
    error = np.empty_like(mu)
    flat = (np.ascontiguousarray(array).reshape(-1) for array in (mu, target))
    common.cross_entropy(next(flat), 0, next(flat), 0, error.reshape(-1), 0, mu.size, mu.shape[-1])
    return error


def settles(session: ArraySession) -> bool:
    """Return whether each error, once it has come, stays: then learning at a vertex's level is learning at the end."""
    task = session.task
    plain = all(bank.precision is None for bank in session.program.groups.values())
    gentle = task.rule.step_size == 1 and not task.step_sizes and not task.initial
    return plain and gentle and not task.rule.moving and not uneven_edges(task.graph)


def work_of(session: ArraySession) -> int:
    """Return about how many nanoseconds a tick takes on one thread."""
    batch, total = session.task.batch, 0.0
    each = MOVING if session.task.rule.moving else FIXED
    for step in session.program.steps:
        total += len(step.names) * (PASSING + batch * (each * prod(step.shape) + products_of(step) / PRODUCTS))
    return int(total)


def products_of(step: Step) -> int:
    """Return how many products of a weight and a number a vertex of a step takes for a sample."""
    return sum(prod(slot.shape) for slot in step.parameters) * prod(step.shape[:-1])


PRODUCTS = 16
"""Products of a weight and a number that take a nanosecond."""

PASSING = 25
"""Nanoseconds that a thread takes for a vertex that acts, however few its samples."""

FIXED, MOVING = 0.3, 3
"""Nanoseconds for a number of a vertex that acts, where predictions are fixed, and where they move."""


def sharers(session: ArraySession, most: int) -> int:
    """Return how many threads share out the samples.

    Each of them passes over all vertices that act; it is to be three times as long busy with its samples.
    """
    passing = numbers = 0.0
    moving = session.task.rule.moving
    for step in session.program.steps:
        heard = sum(slot.messages is not None for slot in step.slots) / max(1, len(step.slots))
        if moving or heard:
            passing += PASSING * len(step.names)
            each = (MOVING if moving else FIXED) * prod(step.shape)
            numbers += len(step.names) * (each + (moving + heard) * products_of(step) / PRODUCTS)
    return max(1, min(most, int(session.task.batch * numbers / (3 * passing)))) if passing else most


def start(task: Task) -> Session:
    """Start a run on Numba; a graph with an op that has no kernel is played by the array engine."""
    return updates_only(task, _start)


def _start(task: Task) -> Session:
    session = ArraySession(task, np)
    return JitSession(session) if suits(session) else session
