"""The compiled engine's session: the state of an array session, advanced by kernels, many ticks at once.

Reading, reporting and contributions without a kernel stay with the array session, on the same arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.array.schedule import EveryRow
from pcsim.engines.array.session import ArraySession
from pcsim.engines.array.units import Work
from pcsim.engines.base import begun_again, tick_by_tick
from pcsim.engines.jit import flows, projections
from pcsim.engines.jit.firing import applies, at_front, only_last
from pcsim.engines.jit.instructions import Instructions
from pcsim.engines.jit.kernels.common import ALL, NOTE, PREDICT, SEND, SWEEP
from pcsim.engines.jit.kernels.losses import cross_entropy_error
from pcsim.engines.jit.layout import Layout
from pcsim.engines.jit.learning import Learning
from pcsim.engines.jit.norms import Norms, place_norms
from pcsim.engines.jit.parts import LONG_AGO, Parts
from pcsim.engines.jit.pool import ThreadPool
from pcsim.engines.jit.segments import Compiled, Sharing
from pcsim.engines.jit.sizing import errors_stay, threads_of, work_of
from pcsim.engines.updates_only import updates_only
from pcsim.errors import RunError
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Read, Session, Task
    from pcsim.engines.jit.projections import Projection
    from pcsim.engines.jit.segments import Segment
    from pcsim.program.program import Slot, Step


class JitSession:
    """A run whose ticks are compiled.

    Attributes
    ----------
    array_session : whose arrays these are
    laid_out : where everything lies
    parts : what each thread has of its own
    instructions : what a tick is
    errors_stay : whether each error, once it has come, stays
    """

    def __init__(self, array_session: ArraySession) -> None:
        self.array_session, self.task = array_session, array_session.task
        self.program, self.units = array_session.program, array_session.units
        array_session.plans = EveryRow(self.program)
        array_session.plan = array_session.plans.plan
        self.work, self.errors_stay = work_of(array_session), errors_stay(array_session)
        self.threads, by_sample = threads_of(array_session, self.work)
        self.sharing = Sharing(self.threads, by_sample, self.task.dtype)
        self.laid_out = Layout(array_session, flowing=by_sample and flows.flows(self.program))
        self.parts = Parts(self.laid_out, self.sharing)
        self.instructions = Instructions(self.laid_out, self.sharing)
        norms = place_norms(self.laid_out)
        self.table = self.laid_out.table.array()
        self.parts.use(self.table)
        self.pool = ThreadPool(self.threads, np.zeros(1, self.task.dtype), self.table)
        whole = self.parts.whole
        self.learning = Learning(self.laid_out, self.sharing, self.pool, whole, self._inputs, work=self.work)
        self.norms = Norms(self.sharing, self.pool, self.parts.shared, self.laid_out.active, norms)
        self.sources = [
            (*self.program.location[name], name) for name in self.task.inputs if name in self.program.location
        ]
        self.unwatched = {one.step.shape for one in self.laid_out.projections.values()}
        """Shapes of which a vertex may become NaN or infinite in the sweep without a note."""
        self._pack()
        self._forget()
        self._begin()

    def _run(self, segments: Sequence[Segment], mode: int, first: int, end: int | None = None) -> None:
        """Run segments at ticks ``first`` to ``end - 1``: at once, or tick by tick where some are array calls."""
        last = first + 1 if end is None else end
        if len(segments) == 1 and isinstance(segments[0], Compiled):
            self._run_compiled(segments[0], mode, first, last)
            return
        for tick in range(first, last):
            for segment in segments:
                if isinstance(segment, Compiled):
                    self._run_compiled(segment, mode, tick, tick + 1)
                elif not segment.act(self.parts, mode):
                    self.parts.note_fault()

    def _run_compiled(self, segment: Compiled, mode: int, first: int, end: int) -> None:
        """Run instructions at ticks ``first`` to ``end - 1``; threads are woken where that is worth while."""
        work = self.work if self.errors_stay else self.work * (end - first)
        in_step = not self.sharing.by_sample
        self.pool.run(segment.numbers, self.parts.shared, mode, first, end, work=work, in_step=in_step)

    # -- start ------------------------------------------------------------------------------------------

    def restart(
        self,
        inputs: Mapping[str, np.ndarray] | None = None,
        targets: Mapping[str, np.ndarray] | None = None,
        parameters: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Begin again at tick 0; what is not given stays."""
        session = self.array_session
        self.task = session.task = begun_again(self.task, inputs, targets, parameters)
        if parameters is not None or applies(self.task.rule):
            session.fill(self.task)
            self._pack()
        self._forget()
        self._begin()

    def _forget(self) -> None:
        """Forget the run; what is written before it is read may stay."""
        session, blank = self.array_session, self.laid_out.blank
        session.tick = 0
        session.applied.clear()
        session.frozen_at.clear()
        # a vertex that does not begin at its feedforward value moves at once, and reads what no one has sent yet
        read = [
            self.laid_out.sent[shape]
            for shape, inbox in self.program.inboxes.items()
            if inbox.direct is None or self.task.initial
        ]
        learnt = [array for shape, array in session.learnt.items() if shape not in blank]
        for array in (*learnt, *session.histories.values(), *session.lines.values(), *read):
            array[...] = 0
        for shape, place in blank.items():
            self.table[place : place + len(session.learnt[shape])] = 1
        for units in self.units.values():
            units.targets = ()
            for array in (units.deviation, units.shift, units.error) if self.task.rule.moving else (units.deviation,):
                array[...] = 0
        for ticks in session.fire_ticks.values():
            ticks[...] = -1

    def _pack(self) -> None:
        """Pack the weights of layers, bundles and populations for their products."""
        theta = self.array_session.theta
        for segment in self.instructions.arranging:
            self.pool.run(segment.numbers, self.parts.whole, 0, 0, 1, work=self.work, in_step=False)
        for bundle in self.laid_out.bundles:
            bundle.pack(theta[bundle.weight.shape])
        for packed in self.laid_out.packed:
            packed.pack(theta[packed.shape])

    def _begin(self) -> None:
        """Sweep forward, clamp the outputs and set the values at tick 0."""
        session, task, moving = self.array_session, self.task, self.task.rule.moving
        for shape, row, name in self.sources:
            self.units[shape].start[row] = task.inputs[name]
        self._sweep()
        for units in self.units.values():
            session.set_initial(units)
            if moving:
                units.value[units.group.active :] = units.start[units.group.active :]
        for loss, units, rows, target in session.outputs():
            units.deviation[rows] = loss_error(loss, units.start[rows], target)
            if loss != "squared_error" and moving:
                units.targets += ((loss, rows, target),)
        for array_step in self.laid_out.array_steps.values():
            array_step.settle()
        self._clear_delay_buffers()
        for name, array in self.laid_out.targets.items():
            array[...] = task.targets[name]
        if moving:
            self._run(self.instructions.preparing, ALL, 0)
        self.parts.mark_start()

    def _sweep(self) -> None:
        """Set the feedforward values."""
        self.parts.forget_faults()
        self._run(self.instructions.sweeping, SWEEP, 0)
        if self.parts.faulty() or not all(
            self.array_session.finite(self.units[shape].start) for shape in self.unwatched
        ):
            ArraySession(self.task, np)  # names the vertex and the value

    def _clear_delay_buffers(self) -> None:
        """Begin the delay buffers of projections: no error, feedforward values."""
        for buffer in self.laid_out.delay_buffers:
            buffer[...] = 0
        for (shape, row), past in self.laid_out.past_values.items():
            past.values[...] = self.units[shape].start[row]
        self.parts.mark_buffers(LONG_AGO)

    # -- one tick ---------------------------------------------------------------------------------------

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors."""
        session, moving = self.array_session, self.task.rule.moving
        session.tick = tick
        if session.may_freeze:
            self._check("value", "deviation", tick)
        if moving:
            self._run(self.instructions.preparing, ALL, tick)
            self._run(self.instructions.acting, PREDICT | ALL, tick)
        self._run(self.instructions.remembering, 0, tick)
        self._check("error", "error", tick)

    def send(self, tick: int) -> None:
        """Send errors and sum those due."""
        self._run(self.instructions.acting, SEND | ALL, tick)
        self._run(self.instructions.delivering, 0, tick)
        self._check("error", "received", tick, due=1)

    def move(self) -> None:
        """Move the free values to the next tick."""
        self._run(self.instructions.staying, 0, self.array_session.tick)
        self.parts.mark_all(self.array_session.tick)

    # -- many ticks -------------------------------------------------------------------------------------

    def advance(self, first: int, end: int, *, last: bool, norms: np.ndarray | None = None) -> None:
        """Play ticks ``first`` to ``end - 1`` in one compiled call where the rule allows it."""
        if not self._runs_through():
            tick_by_tick(
                self,
                first,
                end,
                last=last,
                measure=None if norms is None else self.array_session.measuring(norms, first),
            )
            return
        before = self._kept() if first else {}
        learns = last or not only_last(self.task.rule)
        segments, mode = self.instructions.ticking, SEND | PREDICT * self.task.rule.moving
        if norms is not None:
            self.norms.begin(first, end - first)
            segments, mode = self.instructions.noting, mode | NOTE
        self._run(segments, mode, first, end - learns)
        try:
            if learns and not self.parts.faulty():
                self._finish(first, end - 1, noting=norms is not None)
        except RunError:
            self._explain(before, first, end, last=last)  # names what ended first, which need not be the update
            raise
        if self.parts.faulty():
            self._explain(before, first, end, last=last)
        if norms is not None:
            self.norms.take(norms)

    def _runs_through(self) -> bool:
        """Return whether nothing is learnt before the last tick that would not be the same then."""
        rule = self.task.rule
        return only_last(rule) or (at_front(rule) and self.errors_stay)

    def _finish(self, first: int, tick: int, *, noting: bool) -> None:
        """Play the last tick: between predicting and moving, parameters learn."""
        self.array_session.tick = tick
        if self.task.rule.moving:
            self._run(self.instructions.acting, PREDICT, tick)
        if noting and (tick == first or self.instructions.measures):
            self._run(self.instructions.measuring, 0, tick)
        self.learning.catch_up(first, tick)
        self._run(self.instructions.ticking, SEND, tick)

    def _kept(self) -> dict[str, list[np.ndarray]]:
        """Return a copy of the state, by which what went wrong can be told."""
        return {name: [array.copy() for array in arrays] for name, arrays in self._state().items()}

    def _state(self) -> dict[str, list[np.ndarray]]:
        session = self.array_session
        units = [
            array for units in self.units.values() for array in (units.deviation, units.shift) if array is not None
        ]
        flying = {"lines": list(session.lines.values()), "histories": list(session.histories.values())}
        return {"units": units, **flying, "delay buffers": self.laid_out.delay_buffers}

    def _explain(self, before: dict[str, list[np.ndarray]], first: int, end: int, *, last: bool) -> None:
        """Play again, tick by tick with every check, what has ended in numbers that are not finite."""
        if first == 0:
            self.restart()
        for name, arrays in before.items():
            for array, kept in zip(self._state()[name], arrays, strict=True):
                array[...] = kept
        for array in self.array_session.learnt.values():
            array[...] = 0
        self.parts.forget_faults()
        self.parts.mark_buffers(first)
        self.parts.mark_all(first)
        tick_by_tick(self, first, end, last=last)

    # -- learn ------------------------------------------------------------------------------------------

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""
        session = self.array_session
        with np.errstate(all="ignore"):
            firing = [(step, session.firing(step, tick, last=last)) for step in self.program.steps if step.learns]
            self.learning.accumulate([(step, rows) for step, rows in firing if rows is not None], tick)
            if applies(self.task.rule):
                self.learning.replace_blanks()
                session.apply()
                self._pack()

    def _inputs(self, step: Step) -> tuple[np.ndarray, ...]:
        """Return what a step has taken as inputs in this tick, (vertices, batch, *shape) each."""
        return tuple(self._input(slot) for slot in step.slots)

    def _input(self, slot: Slot) -> np.ndarray:
        if slot.is_parameter:
            rows: np.ndarray = self.array_session.theta[slot.shape][slot.rows][:, None]
            return rows
        units = self.array_session.units[slot.shape]
        found: np.ndarray = (units.value if self.task.rule.moving else units.start)[slot.rows]
        if (late := self.laid_out.late_values.get(id(slot))) is not None and slot.late is not None:
            found = found.copy()
            found[slot.late.positions] = late
        elif slot.late is not None and self.task.rule.moving:
            found = found.copy()
            rows = indices(slot.rows)
            for position, delay in zip(slot.late.positions, slot.late.delay, strict=True):
                past = self.laid_out.past_values[slot.shape, int(rows[position])].values
                found[position] = past[(self.array_session.tick - delay) % len(past)]
        return found

    # -- checks and reading -----------------------------------------------------------------------------

    def _check(self, what: str, name: str, tick: int, due: int = 0) -> None:
        """Name what is not finite, or put it to rest, as the array session does."""
        session = self.array_session
        where = [
            (shape, slice(0, len(array)))
            for shape, units in session.units.items()
            if (array := getattr(units, name)).size
        ]
        if all(session.finite(getattr(session.units[shape], name)) for shape, _ in where):
            return
        for step in session.program.steps:
            session.work[id(step)] = Work(self._inputs(step), None, (), 0, len(step.names))
        session.check(what, name, where, tick, due)

    def executed(self) -> dict[str, str]:
        """Return what computes each vertex: ``numba``, or ``numpy`` and why."""
        found = {name: "numba" for step in self.array_session.program.steps for name in step.names}
        for array_step in self.laid_out.array_steps.values():
            found |= dict.fromkeys(array_step.step.names, f"numpy: {array_step.why}")
        return found

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by bank."""
        return self.array_session.layout()

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices, or of edges for messages."""
        read = self.array_session.reader(quantity, names)
        wanted = self._summed(names) if quantity == "error message" else {}
        if not wanted:
            return read

        def worked_out() -> np.ndarray:
            found = np.array(read())
            for place, (projection, delay, row) in wanted.items():
                found[place] = projections.message(self.laid_out, projection, delay, row, self.array_session.tick)
            return found

        return worked_out

    def _summed(self, names: Sequence[str]) -> dict[int, tuple[Projection, int, int]]:
        """Return the edges, by place, whose messages a projection sums itself: step, delay and vertex."""
        found = {
            edge.name: (projection, delay, row)
            for projection in self.laid_out.projections.values()
            for delay, slot in enumerate(projection.step.slots)
            for row, edge in enumerate(slot.edges)
        }
        return {place: found[name] for place, name in enumerate(names) if name in found}

    def updates(self) -> dict[str, np.ndarray]:
        """Return what each parameter has learnt."""
        self.learning.replace_blanks()
        return self.array_session.updates()

    def parameters(self) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self.array_session.parameters()

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex taught its parameters."""
        return self.array_session.fired()

    def frozen(self) -> dict[str, int]:
        """Return the vertices whose numbers ended after they had taught, and the tick."""
        return self.array_session.frozen()


def loss_error(loss: str, mu: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the error of outputs as kernels compute it in a tick, (rows, batch, *shape)."""
    if loss != "cross_entropy":
        found: np.ndarray = LOSSES[loss].error(np, mu, target)
        return found
    error = np.empty_like(mu)
    flat = (np.ascontiguousarray(array).reshape(-1) for array in (mu, target))
    cross_entropy_error(next(flat), 0, next(flat), 0, error.reshape(-1), 0, mu.size, mu.shape[-1])
    return error


def start(task: Task) -> Session:
    """Start a run on Numba; a step without a kernel is one array call in each tick."""
    return updates_only(task, lambda wanted: JitSession(ArraySession(wanted, np)))
