"""The compiled engine's session: arrays as the array engine has them, advanced by kernels, many ticks at once.

Reading, reporting and contributions without a kernel are the array engine's, on the same arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from pcsim.engines.array.array_state import ArrayState
from pcsim.engines.array.checks import check
from pcsim.engines.array.feedforward import sweep
from pcsim.engines.array.learn import apply, firing
from pcsim.engines.array.measuring import measuring
from pcsim.engines.array.memory import HostMemory
from pcsim.engines.array.session import ArraySession
from pcsim.engines.array.units import Work
from pcsim.engines.base import begun_again, taken_up, tick_by_tick
from pcsim.engines.jit import flows, readouts, saved_state
from pcsim.engines.jit.compiled_ops import COMPILED
from pcsim.engines.jit.descending import Descending
from pcsim.engines.jit.instructions import Instructions
from pcsim.engines.jit.kernels.common import ALL, COMPARE, NOTE, PREDICT, SEND, SWEEP
from pcsim.engines.jit.kernels.groups import GROUP
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.kinds import KINDS
from pcsim.engines.jit.layout import Layout
from pcsim.engines.jit.learning import Learning
from pcsim.engines.jit.norms import Noted, write_totals
from pcsim.engines.jit.parts import LONG_AGO, Parts
from pcsim.engines.jit.pool import ThreadPool
from pcsim.engines.jit.segments import Compiled, Sharing
from pcsim.engines.jit.sizing import errors_stay, threads_of, work_of
from pcsim.engines.operands import buffer_names, drawing
from pcsim.engines.state import check as check_state
from pcsim.engines.updates_only import updates_only
from pcsim.errors import RunError
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from pcsim.engines.base import Given, Read, Session, Task
    from pcsim.engines.jit.segments import Segment
    from pcsim.engines.state import State


class JitSession:
    """A run whose ticks are compiled.

    Attributes
    ----------
    arrays : what lasts from tick to tick
    laid_out : where everything lies
    parts : what each thread has of its own
    instructions : what a tick is
    errors_stay : whether each error, once it has come, stays
    """

    prompt = False
    """Whether each error message is taken once, when all that is due to its receiver is there."""

    def __init__(self, task: Task) -> None:
        self.task, self.arrays = task, ArrayState(task, np, HostMemory(), prompt=self.prompt, ops=COMPILED)
        self.program, self.units = self.arrays.program, self.arrays.units
        self.work, self.errors_stay = work_of(self.arrays), errors_stay(self.arrays)
        self.behind = False
        """Whether values of this tick are still to be worked out from deviations."""
        self.sources = [
            (*self.program.location[name], name) for name in self.task.inputs if name in self.program.location
        ]
        self.reads_operands = bool(buffer_names(task.graph) or drawing(task.graph))
        self.reads_whole = any(slot.is_whole for step in self.program.steps for slot in step.slots)
        self._lay_out()
        self._pack()
        self._forget()
        self._begin()

    def _lay_out(self, *, by_array_call: Container[int] = ()) -> None:
        """Lay everything out; steps given by id are array calls though they have a kernel."""
        threads, by_sample = threads_of(self.arrays, self.work)
        self.sharing = Sharing(threads, by_sample, self.task.dtype)
        flowing = (by_sample or self.prompt) and flows.flows(self.program)
        self.laid_out = Layout(self.arrays, flowing=flowing, by_array_call=by_array_call, prompt=self.prompt)
        self.parts = Parts(self.laid_out, self.sharing)
        self.instructions = Instructions(self.laid_out, self.sharing)
        totals = write_totals(self.laid_out)
        self.table = self.laid_out.table.array()
        self.parts.use(self.table)
        self.pool = ThreadPool(threads, np.zeros(1, self.task.dtype), self.table)
        self.learning = Learning(self.laid_out, self.sharing, self.pool, self.parts, work=self.work)
        self.descending = Descending(self.sharing, self.pool, self.parts)
        noted = (self.sharing, self.pool, self.parts.shared, self.laid_out.active, self.parts.blocks, totals)
        self.squares, self.apart = Noted("squares", *noted), Noted("apart", *noted)
        self.unwatched = {one.step.shape for one in self.laid_out.projections.values()}
        """Shapes of which a vertex may become NaN or infinite in the sweep without a note."""
        self.ran = readouts.executed(self.laid_out)

    @property
    def threads(self) -> int:
        """How many threads share the work."""
        return self.sharing.threads

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

    def restart(self, **given: Unpack[Given]) -> None:
        """Begin again at tick 0; what is not given stays."""
        self.task = self.arrays.task = begun_again(self.task, **given)
        if given.get("precisions"):
            self.arrays.take_precisions(self.task)
        operands = self.reads_operands and any(given.get(key) is not None for key in ("buffers", "batch_number"))
        whole = self.reads_whole and given.get("inputs") is not None
        if operands or whole:
            self._take_operands()
        elif given.get("parameters") is not None or self.task.rule.fires.applies:
            self.arrays.take_parameters(self.task)
            self._pack()
        self._forget()
        self._begin()

    def _take_operands(self) -> None:
        """Take parameters, buffers and draws from the task."""
        self.arrays.fill(self.task)
        self._pack()

    def compare_with(self, references: Mapping[str, np.ndarray] | None) -> None:
        """Say what errors are compared with."""
        self.arrays.compare_with(references)
        self._note_references()

    def _note_references(self) -> None:
        """Write down where what errors are compared with lies, in the number format of the run."""
        references = self.arrays.references
        for shape, location in self.laid_out.groups.items():
            if shape in references:
                references[shape] = np.ascontiguousarray(references[shape], self.task.dtype)
            kept = shape in references
            GROUP.view(self.table, location)["reference"] = address_of(references[shape]) if kept else -1

    def snapshot(self) -> State:
        """Return the state before the next tick."""
        self.learning.replace_blanks()
        return saved_state.snapshot(self.laid_out)

    def load(self, state: State) -> None:
        """Go on from a state of this task, whichever engine it is from."""
        check_state(state, self.task)
        self.task = self.arrays.task = taken_up(self.task, state)
        if lost := saved_state.lost(self.laid_out, state):
            self._lay_out(by_array_call=lost)
            self._note_references()
        self._take_operands()
        self._forget()
        self._begin()
        self.learning.replace_blanks()
        saved_state.restore(self.laid_out, state)
        if self.task.rule.fires.applies:
            self.arrays.gather_parameters()
            self._pack()
        self.parts.mark_all(state.tick)
        self.parts.mark_buffers(state.tick)
        self.behind = True

    def buffers(self) -> dict[str, np.ndarray]:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        return self.arrays.buffers()

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex: ``numba``, or ``numpy`` and why."""
        return self.ran

    def _forget(self) -> None:
        """Forget the run; what is written before it is read may stay."""
        arrays, blank = self.arrays, self.laid_out.blank
        arrays.tick = arrays.next_tick = 0
        self.behind = False
        arrays.applied.clear()
        arrays.frozen_at.clear()
        for shape, array in arrays.learnt.items():
            if shape not in blank:
                array[...] = 0
        for shape, place in blank.items():
            self.table[place : place + len(arrays.learnt[shape])] = 1
        for units in self.units.values():
            units.targets = ()
        for ticks, waiting in zip(arrays.fire_ticks.values(), arrays.waiting.values(), strict=True):
            ticks[...], waiting[...] = -1, False
        self._forget_errors()

    def _forget_errors(self) -> None:
        """Forget errors, and messages under way."""
        arrays = self.arrays
        # a vertex that does not begin at its feedforward value moves at once, and reads what no one has sent yet
        read = [
            self.laid_out.sent[shape]
            for shape, inbox in self.program.inboxes.items()
            if inbox.direct is None or self.task.initial
        ]
        for array in (*arrays.histories.values(), *arrays.lines.values(), *read):
            array[...] = 0
        for units in self.units.values():
            for array in (units.deviation, units.shift, units.error) if self.task.rule.moving else (units.deviation,):
                array[...] = 0

    def _pack(self) -> None:
        """Pack the weights of layers, bundles and populations for their products."""
        theta = self.arrays.theta
        for segment in self.instructions.arranging:
            self.pool.run(segment.numbers, self.parts.whole, 0, 0, 1, work=self.work, in_step=False)
        for bundle in self.laid_out.bundles:
            bundle.pack(theta[bundle.weight.shape])

    def _begin(self) -> None:
        """Sweep forward, clamp the outputs and set the values at tick 0."""
        arrays, task, moving = self.arrays, self.task, self.task.rule.moving
        for shape, row, name in self.sources:
            self.units[shape].start[row] = task.inputs[name]
        arrays.hold()
        self._sweep()
        for units in self.units.values():
            arrays.set_initial(units)
            if moving:
                units.value[units.group.active :] = units.start[units.group.active :]
        for loss, units, rows, target in arrays.outputs():
            units.deviation[rows] = readouts.loss_error(loss, units.start[rows], target)
            if not LOSSES[loss].clamps and moving:
                units.targets += ((loss, rows, target),)
        for array_step in self.laid_out.array_steps.values():
            array_step.settle()
        self._begin_ticks()

    def _begin_ticks(self) -> None:
        """Make ready what ticks need beyond values and errors."""
        task, moving = self.task, self.task.rule.moving
        self._clear_delay_buffers()
        for name, array in self.laid_out.targets.items():
            array[...] = task.targets[name]
        if moving:
            self._run(self.instructions.preparing, ALL, 0)
        if self.program.held:  # which have errors though they have not moved
            self.parts.mark_all(LONG_AGO)
        else:
            self.parts.mark_start()

    def _sweep(self) -> None:
        """Set the feedforward values."""
        self.parts.forget_faults()
        self._run(self.instructions.sweeping, SWEEP, 0)
        if self.parts.faulty() or not all(self.arrays.finite(self.units[shape].start) for shape in self.unwatched):
            with np.errstate(all="ignore"):
                sweep(self.arrays)  # names the vertex and the value
            self._run(self.instructions.sweeping, SWEEP, 0)  # it did not: its numbers are not those of kernels

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
        arrays, moving = self.arrays, self.task.rule.moving
        arrays.tick = tick
        if arrays.may_freeze:
            self._check("value", "deviation", tick)
        if moving:
            self._run(self.instructions.preparing, ALL, tick)
            self._run(self.instructions.acting, PREDICT | ALL, tick)
        self._run(self.instructions.remembering, 0, tick)
        self._check("error", "error", tick)

    def send(self, tick: int) -> None:
        """Compute the error messages of this tick."""
        self._run(self.instructions.acting, SEND | ALL, tick)

    def deliver(self, tick: int) -> None:
        """Take the error messages due, and sum them by receiver."""
        self._run(self.instructions.delivering, 0, tick)
        self._check("error", "received", tick, due=1)

    def move(self) -> None:
        """Move the free values to the next tick."""
        arrays = self.arrays
        self._run(self.instructions.staying, 0, arrays.tick)
        self.parts.mark_all(arrays.tick)
        self.behind, arrays.next_tick = True, arrays.tick + 1

    # -- many ticks -------------------------------------------------------------------------------------

    def advance(
        self, first: int, end: int, *, last: bool, squares: np.ndarray | None = None, apart: np.ndarray | None = None
    ) -> None:
        """Advance ticks ``first`` to ``end - 1`` in one compiled call where the rule allows it."""
        if not self._runs_through():
            measure = measuring(self.arrays, first, squares, apart)
            tick_by_tick(self, first, end, last=last, measure=measure)
            return
        before = self._kept() if first else {}
        try:
            self._run_through(first, end, last=last, noted=(squares is not None, apart is not None))
        except RunError:
            self._explain(before, first, end, last=last)  # names what ended first, which need not be the update
            raise
        if self.parts.faulty():
            self._explain(before, first, end, last=last)
        self.arrays.next_tick = end
        for noted, totals in ((self.squares, squares), (self.apart, apart)):
            if totals is not None:
                noted.take(totals)

    def _run_through(self, first: int, end: int, *, last: bool, noted: tuple[bool, bool]) -> None:
        """Run many ticks at once; parameters learn in the last one."""
        if self.behind and self.task.rule.moving:
            self._run(self.instructions.preparing, ALL, first)
        self.behind = False
        segments: Sequence[Segment] = self.instructions.ticking
        mode = SEND | PREDICT * self.task.rule.moving
        if any(noted):
            segments, mode = self._noting(first, end - first, apart=noted[1], mode=mode)
        learns = last or not self.task.rule.fires.only_last
        self._run(segments, mode, first, end - learns)
        if learns and not self.parts.faulty():
            self._finish(first, end - 1, mode & (NOTE | COMPARE))

    def _noting(self, first: int, ticks: int, *, apart: bool, mode: int) -> tuple[Sequence[Segment], int]:
        """Let ticks be noted; return what runs them, and in which mode."""
        self.squares.begin(first, ticks)
        if not apart:
            return self.instructions.noting, mode | NOTE
        if not self.arrays.references:
            raise KeyError("errors are compared with nothing: compare_with comes first")
        self.apart.begin(first, ticks)
        return self.instructions.comparing, mode | COMPARE

    def _runs_through(self) -> bool:
        """Return whether nothing is learnt before the last tick that would not be the same then."""
        fires = self.task.rule.fires
        if fires.applies:
            return False
        return self.errors_stay if fires.at_front else fires.only_last

    def _finish(self, first: int, tick: int, noted: int) -> None:
        """Run the last tick: between predicting and moving, parameters learn."""
        self.arrays.tick = tick
        if self.task.rule.moving:
            self._run(self.instructions.acting, PREDICT, tick)
        if noted and (tick == first or noted & COMPARE or self.instructions.measures):
            self._run(self.instructions.measuring, noted, tick)
        self.learning.catch_up(first, tick)
        self._run(self.instructions.ticking, SEND, tick)

    def _kept(self) -> dict[str, list[np.ndarray]]:
        """Return a copy of the state, from which what went wrong can be found."""
        return {name: [array.copy() for array in arrays] for name, arrays in self._state().items()}

    def _state(self) -> dict[str, list[np.ndarray]]:
        arrays = self.arrays
        units = [
            array for units in self.units.values() for array in (units.deviation, units.shift) if array is not None
        ]
        flying = {"lines": list(arrays.lines.values()), "histories": list(arrays.histories.values())}
        return {"units": units, **flying, "delay buffers": self.laid_out.delay_buffers}

    def _explain(self, before: dict[str, list[np.ndarray]], first: int, end: int, *, last: bool) -> None:
        """Run again, tick by tick with every check, what has ended in numbers that are not finite."""
        if first == 0:
            self.restart()
        for name, arrays in before.items():
            for array, kept in zip(self._state()[name], arrays, strict=True):
                array[...] = kept
        for array in self.arrays.learnt.values():
            array[...] = 0
        self.parts.forget_faults()
        self.parts.mark_buffers(first)
        self.parts.mark_all(first)
        tick_by_tick(self, first, end, last=last)

    # -- learn ------------------------------------------------------------------------------------------

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""
        arrays = self.arrays
        with np.errstate(all="ignore"):
            due = [(step, firing(arrays, step, tick, last=last)) for step in self.program.steps if step.learns]
            self.learning.accumulate([(step, rows) for step, rows in due if rows is not None], tick)
            if self.task.rule.fires.applies:
                self.learning.replace_blanks()
                apply(arrays)
                self._pack()

    # -- checks and reading -----------------------------------------------------------------------------

    def _check(self, what: str, name: str, tick: int, due: int = 0) -> None:
        """Name what is not finite, or freeze it, as the array engine does."""
        arrays = self.arrays
        where = [
            (shape, slice(0, len(array)))
            for shape, units in arrays.units.items()
            if (array := getattr(units, name)).size
        ]
        if all(arrays.finite(getattr(arrays.units[shape], name)) for shape, _ in where):
            return
        for step in arrays.program.steps:
            arrays.work[id(step)] = Work(readouts.inputs_of(self.laid_out, step), None, (), 0, len(step.names))
        check(arrays, what, name, where, tick, due)

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by shape group."""
        return self.arrays.layout()

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices, or of edges for messages."""
        if not self.laid_out.projections:
            return self.arrays.reader(quantity, names)
        made: dict[int, Read] = {}

        def read() -> np.ndarray:
            layout = self.laid_out  # a state of another engine may have been loaded since
            if id(layout) not in made:
                made[id(layout)] = readouts.reader(layout, quantity, names)
            return made[id(layout)]()

        return read

    def updates(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return what each parameter has learnt."""
        self.learning.replace_blanks()
        return self.arrays.updates(copy=copy)

    def parameters(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self.arrays.parameters(copy=copy)

    def descend(
        self, formula: Callable[..., Any], moves: Sequence[Sequence[np.ndarray]], constants: Sequence[float]
    ) -> bool:
        """Move parameters along their updates in compiled code; return whether it could."""
        return self.descending.move(formula, moves, constants)

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex fired."""
        return self.arrays.fired()

    def frozen(self) -> dict[str, int]:
        """Return the vertices that became NaN or infinite after they had fired, and the tick."""
        return self.arrays.frozen()


class BackwardSession(JitSession):
    """A whole run with fixed predictions whose errors stay: one sweep forward, and one back.

    Going back, a vertex sums what is due to it when all of it is there, and sends once. The sums are those of the tick
    at which all of it would be due, in the same order; there are no ticks, and no messages under way.
    """

    prompt = True

    def _forget_errors(self) -> None:
        """Leave errors and messages: each is written before it is read."""

    def _begin_ticks(self) -> None:
        """Leave what ticks need."""

    def advance(
        self, first: int, end: int, *, last: bool, squares: np.ndarray | None = None, apart: np.ndarray | None = None
    ) -> None:
        """Do a whole run in one call; raises RunError where a number becomes NaN or infinite."""
        assert (first, end, last, squares, apart) == (0, self.task.ticks, True, None, None)
        self.parts.forget_faults()
        self._run(self.instructions.returning, SEND | ALL, 0)
        if self.parts.faulty():
            raise RunError("an error became NaN or infinite")
        self.arrays.tick = end - 1
        self.learning.catch_up(first, end - 1)
        self.arrays.next_tick = end


def sweeps_back(task: Task) -> bool:
    """Return whether errors can be worked out once each, at step size 1, without precisions or populations."""
    graph, rule = task.graph, task.rule
    kinds = [KINDS.get(graph.vertices[name].op.name) for name in graph.active]
    return (
        (rule.step_size, rule.output_variance) == (1, 1)
        and not (task.step_sizes or task.initial)
        and all(np.all(np.asarray(graph.vertices[name].precision) == 1) for name in graph.active)
        and not any(kind is not None and kind.remembers for kind in kinds)
    )


def start(task: Task) -> Session:
    """Start a run on Numba; a step without a kernel is one array call in each tick, as is all of it with channels."""
    if task.graph.has_channels:
        return ArraySession(task, np, note="an edge has a channel, or a vertex does not act at every tick")
    return updates_only(task, JitSession, BackwardSession if sweeps_back(task) else None)
