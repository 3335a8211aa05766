"""The compiled engine: the state of an array session, played by kernels, many ticks at once where no one looks.

What is rare stays with the array session, on the same arrays: reading, reporting, ops that teach without a kernel.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array import ArraySession
from pcsim.engines.base import begun_again, tick_by_tick
from pcsim.engines.jit import common, dense, flow, moves, population, weighted, wiring
from pcsim.engines.jit.driver import RANGES, Crew
from pcsim.engines.jit.layout import KINDS, Layout, suits
from pcsim.engines.jit.native import address_of, entry
from pcsim.engines.jit.products import SLAB
from pcsim.engines.needed import sparing
from pcsim.engines.rows import by_depth, indices, masked
from pcsim.engines.schedule import Throughout
from pcsim.engines.units import Work
from pcsim.errors import RunError, wrong
from pcsim.graph.levels import uneven_edges
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcsim.arrays import Shape
    from pcsim.engines.base import Read, Session, Task
    from pcsim.engines.jit.wiring import Wired
    from pcsim.program.program import ParameterSlot, Rows, Slot, Step

LONG_AGO = -(1 << 40)
"""A tick before every run."""

WORTH_A_CREW = 60_000
"""Nanoseconds of work from which on it is worth waking other threads."""


@dataclass(frozen=True)
class Lesson:
    """How steps teach: which vertices, by weight, and where that is listed; the script; which weights were taught."""

    listed: list[tuple[int, np.ndarray]]
    script: np.ndarray
    taught: list[tuple[int, np.ndarray]]


class JitSession:
    """A run whose ticks are compiled."""

    def __init__(self, rare: ArraySession) -> None:
        self.rare, self.task = rare, rare.task
        self.work = work_of(rare)
        self.threads, self.by_sample = self._threads()
        self.flowing = self.by_sample and flow.flows(rare.program)
        self.places = Layout(rare, self.flowing)
        self.settles = settles(rare)
        rare.plans = Throughout(rare.program)
        rare.plan = rare.plans.plan
        self.like = np.zeros(1, self.task.dtype)
        self.lessons: dict[tuple[tuple[int, int], ...], list[Lesson]] = {}
        """By the steps that teach as a whole."""
        self.flow = flow.lay_out(self.places) if self.flowing else 0
        self._lay_out_parts()
        self.measured = [self.places.to_measure(shape) for shape in rare.program.banks]
        self.table = self.places.table.array()
        self.crew = Crew(self.threads, self.like, self.table)
        self.sources = [(*rare.program.place[name], name) for name in self.task.inputs if name in rare.program.place]
        self.unwatched = {wired.step.shape for wired in self.places.wired}
        """Banks in which a vertex may end in the sweep without a note."""
        self._write_scripts()
        self._pack()
        self._forget()
        self._begin()

    # -- threads ----------------------------------------------------------------------------------------

    def _threads(self) -> tuple[int, bool]:
        """Return how many threads play, and whether they share out the samples, or else the vertices, in step."""
        cores = threads_wanted()
        if self.task.batch >= 2 * cores:
            return cores, True
        return (cores, False) if self.work > WORTH_A_CREW else (1, True)

    def _lay_out_parts(self) -> None:
        """Lay out what each thread has of its own: samples, scratch, notes of who moved."""
        layout, threads, batch = self.places, self.threads, self.task.batch
        region = batch * layout.widest + SLAB
        bounds = np.linspace(0, batch, threads + 1).astype(int) if self.by_sample else None
        self.notes = [self._notes() for _ in range(threads if self.by_sample else 1)]
        self.parts: list[int] = []
        self.whole: list[int] = []
        for thread in range(threads):
            scratch = address_of(layout.new(4 * region))
            mine = self.notes[thread if self.by_sample else 0]
            low, high = (0, batch) if bounds is None else (int(bounds[thread]), int(bounds[thread + 1]))
            for parts, first, last in ((self.parts, low, high), (self.whole, 0, batch)):
                parts.append(layout.table.add([first, last, scratch, region, *mine, 0, 0]))

    def _notes(self) -> tuple[int, ...]:
        """Lay out who has moved, whose error may have changed, when late messages last changed, what rings hold."""
        table, layout = self.places.table, self.places
        moved, woke = (table.add(np.zeros(layout.vertices, np.int64)) for _ in range(2))
        return (
            moved,
            woke,
            *(table.add(np.zeros(count, np.int64)) for count in (layout.late_messages, layout.ring_notes)),
        )

    def _write_scripts(self) -> None:
        rule, program, layout = self.task.rule, self.rare.program, self.places
        banks = [(layout.banks[shape], bank.active) for shape, bank in program.banks.items() if bank.active]
        acting = [self._step(step) for step in program.steps if rule.moving or step.sends]
        remembering = [self._each(moves.remember, at, lines) for at, lines in layout.histories]
        recalling = [self._each(moves.recall, at, count) for at, count in layout.recalls]
        next_recalling = [self._each(moves.recall_next, at, count) for at, count in layout.recalls]
        adding = [self._each(moves.materialise, at, count) for at, count in banks if rule.moving]
        self.sweeping = self._script(*([self._step(step, rows)] for step, rows in by_depth(program.steps)))
        self.preparing = self._script([*recalling, *adding])
        self.delivering = self._script([self._each(moves.deliver, at, count) for at, count in banks])
        self.staying = self._script([self._each(moves.stay, at, count) for at, count in banks])
        self.measuring = [
            self._each(moves.measure, at, bank.active)
            for at, bank in zip(self.measured, program.banks.values(), strict=True)
            if bank.active
        ]
        answering = [
            self._each(population.answer, layout.steps[id(wired.step)], loads=wired.loads(wired.backward))
            for wired in layout.wired
            if wired.step.sends
        ]
        answering += [self._each(weighted.answer, at, count) for at, count in layout.answering]
        keeping = [self._each(population.remember_values, at, population.PIECES) for at in layout.keeping]
        self.acting = self._script(acting, answering)
        self.remembering = self._script(remembering, keeping)
        self.arranging = self._script(
            [
                self._share(kernel, layout.steps[id(wired.step)], wiring.shares(wired.loads(blocks), self.threads))
                for wired in layout.wired
                for kernel, blocks in (
                    (population.arrange_forth, wired.forward),
                    (population.arrange_back, wired.backward),
                )
            ]
        )
        written = [self._step(step) for step in program.steps if rule.moving or (step.sends and not self._flows(step))]
        before = [*written, *remembering]
        answering += keeping
        after = [*self._moving(banks), *next_recalling]
        self.ticking = self._script(before, answering, after)
        self.noting = self._script(before, [*answering, *self.measuring], after)

    def _flows(self, step: Step) -> bool:
        """Return whether what a step sends is never written down in a block of ticks."""
        return self.flowing and flow.unwritten(self.places, step)

    def _moving(self, banks: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        if not self.flowing:
            return [self._each(moves.move, at, count) for at, count in banks]
        count = sum(bank.free for bank in self.rare.program.banks.values())
        return [self._each(flow.flow, self.flow, count)]

    def _step(self, step: Step, rows: slice | None = None) -> np.ndarray:
        rows = rows or slice(0, len(step.names))
        kernel, at = KINDS[step.op.name].kernel, self.places.steps[id(step)]
        for wired in self.places.wired:
            if wired.step is step:
                blocks = len(wired.forward.bounds) - 1
                loads = wired.loads(wired.forward)[rows.start * blocks : rows.stop * blocks]
                return self._each(kernel, at, first=rows.start * blocks, loads=loads, whole=wired.whole)
        return self._each(kernel, at, rows.stop, rows.start)

    def _each(
        self,
        kernel: Any,
        at: int,
        last: int = 0,
        first: int = 0,
        loads: np.ndarray | None = None,
        *,
        whole: bool = False,
    ) -> np.ndarray:
        """Return the instruction that plays a kernel for some rows, shared out among the threads.

        ``loads`` is what each row takes, where they are not alike; ``whole``: one thread plays all rows.
        """
        if loads is None:
            ends = np.linspace(first, last, self.threads + 1).astype(np.int64)
        else:
            last, ends = first + len(loads), first + wiring.shares(loads, self.threads)
        if whole:
            ends[1:] = last
        return self._share(kernel, at, np.array([[first, last]] * self.threads) if self.by_sample else ends)

    def _share(self, kernel: Any, at: int, ends: np.ndarray) -> np.ndarray:
        """Return the instruction that plays a kernel for these rows (threads, 2), or between these bounds."""
        ranges = ends if ends.ndim == 2 else np.stack([ends[:-1], ends[1:]], axis=1)
        return np.array([entry(kernel, self.task.dtype), at, *ranges.ravel()], np.int64)

    def _script(self, *phases: Sequence[np.ndarray]) -> np.ndarray:
        """Return instructions; where threads share vertices out, all wait for each other after each phase."""
        width = RANGES + 2 * self.threads
        wait = [] if self.by_sample else [np.zeros(width, np.int64)]
        lines = [line for phase in phases if len(phase) for line in (*phase, *wait)]
        return np.array(lines, np.int64).reshape(-1, width)

    def _run(self, script: np.ndarray, mode: int, first: int, end: int | None = None) -> None:
        """Play a script at ticks ``first`` to ``end - 1``; threads are woken where that is worth while."""
        last = first + 1 if end is None else end
        sweeps = 1 if self.settles else last - first
        awake = not self.by_sample or self.work * sweeps > WORTH_A_CREW
        self.crew.play(script, self.parts, mode, first, last, awake=awake, together=not self.by_sample)

    # -- start ------------------------------------------------------------------------------------------

    def restart(
        self,
        inputs: Mapping[str, np.ndarray] | None = None,
        targets: Mapping[str, np.ndarray] | None = None,
        parameters: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Begin again at tick 0; what is not given stays."""
        rare = self.rare
        self.task = rare.task = begun_again(self.task, inputs, targets, parameters)
        if parameters is not None or self.task.rule.fires == "every":
            rare._fill(self.task)
            self._pack()
        self._forget()
        self._begin()

    def _forget(self) -> None:
        """Forget the run; what is written before it is read may stay."""
        rare = self.rare
        rare.tick = 0
        rare.applied.clear()
        rare.resting.clear()
        summed = [self.places.sent[shape] for shape, post in rare.program.posts.items() if post.direct is None]
        learnt = [array for shape, array in rare.learnt.items() if shape not in self.places.blank]
        for array in (*learnt, *rare.histories.values(), *rare.lines.values(), *summed):
            array[...] = 0
        for shape, place in self.places.blank.items():
            self.table[place : place + len(rare.learnt[shape])] = 1
        for units in rare.units.values():
            units.targets = ()
            for array in (units.deviation, units.shift, units.error) if self.task.rule.moving else (units.deviation,):
                array[...] = 0
        for taught in rare.taught.values():
            taught[...] = -1

    def _pack(self) -> None:
        """Pack the weights of layers, bundles and populations for their products."""
        self.crew.play(self.arranging, self.whole, 0, 0, 1, awake=self.work > WORTH_A_CREW, together=False)
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
        self._run(self.sweeping, common.SWEEP, 0)
        if self._ended() or not all(rare._finite(rare.units[shape].start) for shape in self.unwatched):
            ArraySession(task, np)  # names the vertex and the value
        for units in rare.units.values():
            rare._set_initial(units)
            if moving:
                units.value[units.bank.active :] = units.start[units.bank.active :]
        for loss, units, rows, target in rare._outputs():
            units.deviation[rows] = loss_error(loss, units.start[rows], target)
            if loss != "squared_error" and moving:
                units.targets += ((loss, rows, target),)
        self._clear_rings()
        for name, array in self.places.targets.items():
            array[...] = task.targets[name]
        if moving:
            self._run(self.preparing, common.ALL, 0)
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
                    first = 0 if self.task.initial else units.bank.free
                    away = (units.deviation[first:] != 0).any(axis=tuple(range(1, units.deviation.ndim)))
                    table[moved + layout.first[shape] + first :][: len(away)] = away

    # -- one tick ---------------------------------------------------------------------------------------

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors."""
        rare, moving = self.rare, self.task.rule.moving
        rare.tick = tick
        if rare.may_rest:
            self._check("value", "deviation", tick)
        if moving:
            self._run(self.preparing, common.ALL, tick)
            self._run(self.acting, common.PREDICT | common.ALL, tick)
        self._run(self.remembering, 0, tick)
        self._check("error", "error", tick)

    def send(self, tick: int) -> None:
        """Send errors and sum those due."""
        self._run(self.acting, common.SEND | common.ALL, tick)
        self._run(self.delivering, 0, tick)
        self._check("error", "received", tick, due=1)

    def move(self) -> None:
        """Move the free values to the next tick."""
        self._run(self.staying, 0, self.rare.tick)
        self._note_moved(everyone=True, tick=self.rare.tick)

    # -- many ticks -------------------------------------------------------------------------------------

    def play(self, first: int, end: int, *, last: bool, norms: np.ndarray | None = None) -> None:
        """Play ticks ``first`` to ``end - 1`` in one compiled call where the rule allows it."""
        if not self._plays_through():
            tick_by_tick(
                self, first, end, last=last, measure=None if norms is None else self.rare._measuring(norms, first)
            )
            return
        before = self._kept() if first else {}
        records = self._record(first, end - first) if norms is not None else None
        measuring = self.measuring if norms is not None else []
        script = self.noting if norms is not None else self.ticking
        learns = last or self.task.rule.fires != "end"
        self._run(script, common.SEND | common.PREDICT * self.task.rule.moving, first, end - learns)
        try:
            if learns and not self._ended():
                self._finish(first, end - 1, measuring)
        except RunError:
            self._explain(before, first, end, last=last)  # names what ended first, which need not be the update
            raise
        if self._ended():
            self._explain(before, first, end, last=last)
        if records is not None and norms is not None:
            norms[...] = np.sqrt(np.sum(np.square(records, dtype=np.float64), axis=0))

    def _plays_through(self) -> bool:
        """Return whether nothing is learnt before the last tick that would not be the same then."""
        rule = self.task.rule
        if rule.fires in ("level", "arrival"):
            return self.settles
        return rule.fires == "end"

    def _finish(self, first: int, tick: int, measuring: Sequence[np.ndarray]) -> None:
        """Play the last tick: between predicting and moving, parameters learn."""
        self.rare.tick = tick
        if self.task.rule.moving:
            self._run(self.acting, common.PREDICT, tick)
        if len(measuring):
            self._run(self._script(measuring), 0, tick)
        self._teach_late(first, tick)
        self._run(self.ticking, common.SEND, tick)

    def _record(self, first: int, ticks: int) -> np.ndarray:
        """Return where norms are noted, by part, tick and vertex."""
        records = np.zeros((len(self.notes), ticks, self.places.active), self.task.dtype)
        for thread, part in enumerate(self.parts):
            self.table[part + common.NORMS] = address_of(records[thread if self.by_sample else 0])
        for at in self.measured:
            self.table[at + 1] = first
        return records

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
            firing = [(step, rare._firing(step, tick, last=last)) for step in rare.program.steps if step.learns]
            self._teach([(step, rows) for step, rows in firing if rows is not None], tick)
            if self.task.rule.fires == "every":
                self._fill_blanks()
                rare._apply()
                self._pack()

    def _teach_late(self, first: int, tick: int) -> None:
        """Let vertices teach at ``tick`` what they would have taught since ``first``: their errors have stayed."""
        firing = [
            (step, rows)
            for step in self.rare.program.steps
            if step.learns and (rows := self._fired_between(step, first, tick)) is not None
        ]
        with np.errstate(all="ignore"):
            self._teach(firing, tick)
        if self.task.rule.fires != "end":
            for step, rows in firing:
                self.rare.taught[id(step)][rows] = step.levels[rows]

    def _fired_between(self, step: Step, first: int, tick: int) -> Rows | None:
        """Return which vertices of a step fire from ``first`` to ``tick``; None for none."""
        if self.task.rule.fires == "end":
            return slice(0, len(step.names))
        fires = (first <= step.levels) & (step.levels <= tick)
        if self.task.rule.fires == "arrival":
            error = self.rare.units[step.shape].error[step.rows]
            fires &= (error != 0).any(axis=tuple(range(1, error.ndim)))
        return masked(fires)

    def _teach(self, firing: Sequence[tuple[Step, Rows]], tick: int) -> None:
        """Let some rows of some steps teach: compiled where there is a kernel."""
        compiled = []
        for step, rows in firing:
            kernel = KINDS[step.op.name].learn
            self.rare.taught[id(step)][rows] = tick
            if kernel is None:
                self._teach_rarely(step, rows, tick)
            elif kernel is population.learn:
                self._teach_population(step, rows, tick)
            else:
                compiled.append((kernel, step, rows))
        if compiled:
            self._teach_compiled(compiled)
            if any(self.table[part + common.FAULT] for part in self.whole):
                for step, rows in firing:
                    self._teach_rarely(step, rows, tick)

    def _teach_population(self, step: Step, rows: Rows, tick: int) -> None:
        """Let projections teach, one after the other; each synapse has one thread."""
        wired = next(wired for wired in self.places.wired if wired.step is step)
        blocks, at = wired.forward, self.places.steps[id(step)]
        ends = blocks.shares(self.threads)
        script = [self._share(population.learn, at, row * (len(blocks.bounds) - 1) + ends) for row in indices(rows)]
        awake = self.work > WORTH_A_CREW
        self.crew.play(np.array(script, np.int64), self.whole, 0, tick, tick + 1, awake=awake, together=False)
        if not all(np.isfinite(self.places.learnt(slot.shape)).all() for slot in step.parameters):
            self._teach_rarely(step, rows, tick)

    def _teach_rarely(self, step: Step, rows: Rows, tick: int) -> None:
        """Let some rows of a step teach by its op's own derivatives."""
        self._fill_blanks()
        inputs = self._inputs(step)
        mu, saved = step.op.forward(np, step.call, self.rare.params[id(step)], inputs)
        self.rare.work[id(step)] = Work(inputs, mu, saved, 0, len(step.names))
        self.rare._add_lessons(step, rows, tick)

    def _teach_compiled(self, firing: Sequence[tuple[Any, Step, Rows]]) -> None:
        """Let rows teach, each slice of a weight on one thread, threads with about equal work."""
        key = tuple((id(step), ends) for _, step, rows in firing if (ends := whole(step, rows)))
        lessons = self.lessons.get(key, []) if len(key) == len(firing) else []
        if not lessons:
            lessons = [self._lesson(wave) for wave in waves(firing)]
            if len(key) == len(firing):
                self.lessons[key] = lessons
        for lesson in lessons:
            for place, listed in lesson.listed:
                self.table[place : place + len(listed)] = listed
            awake = self.work > WORTH_A_CREW
            self.crew.play(lesson.script, self.whole, 0, 0, 1, awake=awake, together=False)
            for place, rows in lesson.taught:
                self.table[place + rows] = 0

    def _lesson(self, wave: Sequence[tuple[Any, Step, Rows]]) -> Lesson:
        """Return how rows teach: slices of weights one after the other, cut into equal shares of work."""
        orders = [lesson_order(step, rows) for _, step, rows in wave]
        loads = [slice_loads(step, order) for (_, step, _), order in zip(wave, orders, strict=True)]
        ends = wiring.shares(np.concatenate(loads), self.threads)
        script, listed, taught = [], [], []
        for (kernel, step, _), order, load in zip(wave, orders, loads, strict=True):
            mine, at = np.clip(ends, 0, len(load)), self.places.steps[id(step)]
            if shares_bias(step):
                mine[1:] = len(load)
            script.append(self._share(kernel, at, mine))
            users = self.table[at + common.OWN] + dense.WEIGHTS + dense.COLUMNS * len(step.names)
            listed.append((int(users), by_weight(step, order)))
            taught.append((self.places.blank[parameters_of(step)["weight"].shape], weights_of(step)[order]))
            ends = ends - len(load)
        return Lesson(listed, np.array(script, np.int64), taught)

    def _fill_blanks(self) -> None:
        """Set what parameters have learnt to zero where it was left as it lay, to be replaced."""
        for shape, place in self.places.blank.items():
            learnt = self.rare.learnt[shape]
            flags = self.table[place : place + len(learnt)]
            learnt[flags != 0] = 0
            flags[:] = 0

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
        if all(rare._finite(getattr(rare.units[shape], name)) for shape, _ in where):
            return
        for step in rare.program.steps:
            rare.work[id(step)] = Work(self._inputs(step), None, (), 0, len(step.names))
        rare._check(what, name, where, tick, due)

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
        self._fill_blanks()
        return self.rare.updates()

    def parameters(self) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self.rare.parameters()

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex taught its parameters."""
        return self.rare.fired()

    def rested(self) -> dict[str, int]:
        """Return the vertices whose numbers ended after they had taught, and the tick."""
        return self.rare.rested()


def whole(step: Step, rows: Rows) -> int:
    """Return how many rows a step has if these are all of them, else 0."""
    return len(step.names) if isinstance(rows, slice) and rows.stop - rows.start == len(step.names) else 0


def parameters_of(step: Step) -> dict[str, ParameterSlot]:
    """Return the parameters of a step by what they are to its op."""
    return {slot.name: slot for slot in step.parameters}


def rows_of(step: Step, slot: ParameterSlot) -> np.ndarray:
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


def threads_wanted() -> int:
    """Return how many threads may play: PCSIM_THREADS, or the cores of this process; raises InputError for nonsense."""
    said = os.environ.get("PCSIM_THREADS", "")
    if not said:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not said.isascii() or not said.isdigit() or int(said) < 1:
        raise wrong("PCSIM_THREADS", f"expected a whole number of at least 1, got {said!r}")
    return int(said)


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
    plain = all(bank.precision is None for bank in session.program.banks.values())
    gentle = task.rule.step_size == 1 and not task.step_sizes and not task.initial
    return plain and gentle and not task.rule.moving and not uneven_edges(task.graph)


def work_of(session: ArraySession) -> int:
    """Return about how many nanoseconds a tick takes on one thread."""
    batch, total = session.task.batch, 0
    for step in session.program.steps:
        products = sum(prod(slot.shape) for slot in step.parameters) * prod(step.shape[:-1])
        total += len(step.names) * (10 + batch * (prod(step.shape) + products // 16))
    return total


def start(task: Task) -> Session:
    """Start a run on Numba; a graph with an op that has no kernel is played by the array engine."""
    return sparing(task, _start)


def _start(task: Task) -> Session:
    session = ArraySession(task, np)
    return JitSession(session) if suits(session) else session
