"""The vectorised engine: all actors of a kind in one array operation, over an array namespace ``xp``.

Arrays of a group are (rows, batch, *shape). The state is the deviation from the feedforward values; the error
of a vertex is ``deviation - shift``, where ``shift`` is how far its prediction has moved, and exactly
zero while no input has moved, because the same operation on the same numbers gives the same bits.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Unpack

import numpy as np

from pcsim.arrays import zeros_in_lines
from pcsim.engines.array.memory import HostMemory
from pcsim.engines.array.readers import Readers
from pcsim.engines.array.rows import by_depth, ends, indices, inside, masked, overlap, shifted, spread, take
from pcsim.engines.array.schedule import EveryRow, Schedule, schedule
from pcsim.engines.array.snapshot import restore, snapshot
from pcsim.engines.array.units import Units, Work, units_of
from pcsim.engines.base import begun_again, may_freeze, taken_up, tick_by_tick
from pcsim.engines.faults import overflowed, report
from pcsim.engines.operands import moved_buffers, operands_of, source_value
from pcsim.engines.squares import squares_of
from pcsim.engines.state import check
from pcsim.engines.updates_only import updates_only
from pcsim.ops import LOSSES
from pcsim.ops.local import Local
from pcsim.program.lower import lower
from pcsim.program.program import rows_of
from pcsim.program.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.engines.array.memory import Memory
    from pcsim.engines.base import Given, Read, Session, Task
    from pcsim.engines.state import State
    from pcsim.graph.graph import Edge, Vertex
    from pcsim.ops.op import Params
    from pcsim.program.program import Rows, Slot, Step


class ArraySession:
    """A run of a lowered program."""

    def __init__(self, task: Task, xp: Namespace, memory: Memory | None = None) -> None:
        self.task, self.xp, self.rule = task, xp, task.rule
        self.memory = memory or HostMemory()
        self.at = self.memory.at
        self.program = verify(lower(task.graph, task.rule, keep_values=task.keep_values))
        self.tick = self.next_tick = 0
        self.origin: State | None = None
        """Where the run was taken up, if not at its beginning."""
        self.fire_ticks = {id(step): np.full(len(step.names), -1) for step in self.program.steps}
        self.waiting = {id(step): np.zeros(len(step.names), bool) for step in self.program.steps}
        """Rows whose error may have left zero unnoticed, where a rule waits for that."""
        self.work = {id(step): Work() for step in self.program.steps}
        self.frozen_at: dict[str, int] = {}
        self.may_freeze = may_freeze(task)
        self.levels = self._levels()
        # an error that lies between the last one and what was received is finite if these are
        unit = all(group.precision is None for group in self.program.groups.values())
        gentle = max([task.rule.step_size, *task.step_sizes.values()]) <= 1
        self.convex = unit and not task.rule.moving and gentle
        needs = self.program.memory(task.batch, task.dtype.itemsize)
        self.memory.admit({**needs, "updates": needs["parameters"]})
        self._allocate()
        self.fill(task)
        self.schedule: Schedule = schedule(task, self.program)
        self._begin()

    # -- start ------------------------------------------------------------------------------------------

    def _levels(self) -> dict[Shape, np.ndarray]:
        """Return the level of every active row of each group."""
        levels = {shape: np.full(group.active, -1) for shape, group in self.program.groups.items()}
        for step in self.program.steps:
            levels[step.shape][step.rows] = step.levels
        return levels

    def _allocate(self) -> None:
        """Make every array that lasts for the session."""
        xp, task, program = self.xp, self.task, self.program

        def rows(count: int, shape: Shape) -> Array:
            return zeros_in_lines(xp, (count, task.batch, *shape), task.dtype)

        self.theta = {shape: xp.zeros((len(names), *shape), task.dtype) for shape, names in program.parameters.items()}
        self.learnt: dict[Shape, Array] = {}
        self.held: dict[Shape, Array] = {}
        self.references: dict[Shape, Array] = {}
        """What errors are compared with, (active, batch, *shape)."""
        self.applied: dict[Shape, Array] = {}
        self.params: dict[int, dict[str, Array]] = {}
        self.feedback: dict[int, Params] = {}
        self.whole: dict[int, Array] = {}
        """Whole numbers that a slot reads, (vertices, batch, *shape)."""
        self.units = {shape: units_of(group, task, xp) for shape, group in program.groups.items()}
        self.histories = {
            shape: rows(history.delay_buffer.slots, shape) for shape, history in program.histories.items()
        }
        self.lines = {
            shape: rows(inbox.delay_buffer.slots, shape) for shape, inbox in program.inboxes.items() if len(inbox.late)
        }
        self.messages = {
            shape: rows(len(inbox.receivers), shape)
            if inbox.direct is None
            else self.units[shape].received[inbox.direct]
            for shape, inbox in program.inboxes.items()
        }
        self.sums = {
            shape: self.memory.sum(inbox.order, inbox.starts, task.dtype)
            for shape, inbox in program.inboxes.items()
            if inbox.direct is None
        }
        self.delay_buffers = {
            shape: self.memory.delay_buffer(inbox.delay_buffer) for shape, inbox in program.inboxes.items()
        }
        self.clocks = {
            shape: self.memory.delay_buffer(history.delay_buffer) for shape, history in program.histories.items()
        }
        state = (self.units, self.histories, self.messages)
        self.readers = Readers(program, *state, self._host, lambda: self.tick, self.at, self.clocks)

    def fill(self, task: Task) -> None:
        """Take the parameters and the data of the sources."""
        for shape, names in self.program.parameters.items():
            for row, name in enumerate(names):
                self.theta[shape][row] = self.xp.asarray(task.parameters[name], task.dtype)
        for shape, group in self.program.groups.items():
            units = self.units[shape]
            for row, name in enumerate(group.names[group.active :], group.active):
                units.start[row] = self.xp.asarray(task.inputs[name], task.dtype)
        self._gather_operands(task)
        self._gather_parameters()

    def _gather_operands(self, task: Task) -> None:
        """Take what steps read beside values and parameters: buffers, draws of this batch, whole numbers."""
        operands = operands_of(task)
        for step in self.program.steps:
            own = [operands.get(name, {}) for name in step.names]
            self.params.setdefault(id(step), {}).update(
                {key: self.xp.asarray(np.concatenate([arrays[key] for arrays in own])) for key in own[0]}
            )
            for slot in step.slots:
                if slot.is_whole:
                    values = [source_value(task, edge.pre) for edge in slot.edges]
                    self.whole[id(slot)] = self.xp.asarray(np.stack(values))

    def _gather_parameters(self) -> None:
        """Take each step's parameters: views where rows are consecutive, copies where they are not."""
        for step in self.program.steps:
            kept = self.params.setdefault(id(step), {})
            for slot in step.parameters:
                rows = self.theta[slot.shape][self.at(slot.rows)]
                if isinstance(slot.rows, slice) or slot.name not in kept:
                    kept[slot.name] = rows
                else:
                    kept[slot.name][...] = rows
            self.feedback[id(step)] = step.feedback.applied(self.xp, step.op, step.call, kept)

    def _begin(self) -> None:
        """Sweep forward and settle; everything that a run leaves behind has been cleared."""
        with np.errstate(all="ignore"):
            self._sweep()
            self._settle()
        slopes = [array for work in self.work.values() for array in work.saved]
        # an infinite slope makes no number of an error of zero, and ends the run at tick 0: all actors must be there
        self.plans = self.schedule if all(map(self.finite, slopes)) else EveryRow(self.program)

    def restart(self, **given: Unpack[Given]) -> None:
        """Begin again at tick 0; what is not given stays."""
        self.task = begun_again(self.task, **given)
        self.memory.watch(closely=False)
        self.origin = None
        self._renew()

    def _renew(self) -> None:
        self._clear()
        self.fill(self.task)
        self._begin()

    def snapshot(self) -> State:
        """Return the state before the next tick."""
        return snapshot(self, self.xp.__name__)

    def load(self, state: State) -> None:
        """Go on from a state of this task, whichever engine it is from."""
        check(state, self.task)
        self.task = taken_up(self.task, state)
        self._renew()
        self.origin = state
        restore(self, state, self.xp.__name__)
        if self.rule.fires.applies:
            self._gather_parameters()

    def follow_every_row(self) -> None:
        """Work out every row at every tick from now on."""
        self.plans = EveryRow(self.program)

    def _clear(self) -> None:
        """Forget the run."""
        self.tick = self.next_tick = 0
        self.applied.clear()
        self.frozen_at.clear()
        for array in (*self.learnt.values(), *self.histories.values(), *self.lines.values(), *self.messages.values()):
            array[...] = 0
        for units in self.units.values():
            units.clear()
        for taught, waiting in zip(self.fire_ticks.values(), self.waiting.values(), strict=True):
            taught[...], waiting[...] = -1, False
        for key, work in self.work.items():
            self.work[key] = Work(saved=work.saved)

    def _sweep(self) -> None:
        """Set the feedforward values, depth by depth."""
        for step, rows in by_depth(self.program.steps):
            inputs = tuple(self._sweep_input(slot, rows) for slot in step.slots)
            params = {name: take(array, rows, len(step.names)) for name, array in self.params[id(step)].items()}
            mu, saved = step.op.forward(self.xp, step.call, params, inputs)
            self.units[step.shape].start[inside(step.rows, rows)] = mu
            if not self.rule.moving:
                self._keep(step, rows, saved)
        self.check("value", "start", self._everywhere(), None)

    def _keep(self, step: Step, rows: slice, saved: tuple[Array, ...]) -> None:
        """Keep what the derivatives of some rows reuse: fixed predictions pay for it once, in the sweep."""
        count, work = len(step.names), self.work[id(step)]
        if rows.stop - rows.start == count:
            work.saved = saved
            return
        if not work.saved:
            work.saved = tuple(self.xp.empty((count, *part.shape[1:]), part.dtype) for part in saved)
        for whole, part in zip(work.saved, saved, strict=True):
            whole[rows] = part

    def _sweep_input(self, slot: Slot, rows: Rows) -> Array:
        if slot.is_parameter:
            return take(self.theta[slot.shape][self.at(slot.rows)], rows, len(slot.edges))[:, None]
        if slot.is_whole:
            return self.whole[id(slot)][rows]
        return self.units[slot.shape].start[inside(self.at(slot.rows), rows)]

    def _settle(self) -> None:
        """Predict from the feedforward values, clamp the outputs, set the values at tick 0."""
        values = {shape: units.start for shape, units in self.units.items()}
        for step in self.program.steps:
            every = slice(0, len(step.names))
            if self.rule.moving:
                self._forward(step, every, values)
            else:
                inputs = tuple(self._input(slot, every, values) for slot in step.slots)
                start = self.units[step.shape].start[step.rows]
                self.work[id(step)] = Work(inputs, start, self.work[id(step)].saved, 0, len(step.names))
        for units in self.units.values():
            if self.rule.moving:
                units.value[...] = units.start
                units.reference = self._reference(units)
            self.set_initial(units)
        for loss, units, rows, target in self.outputs():
            units.deviation[rows] = LOSSES[loss].error(self.xp, units.start[rows], target)
            if not LOSSES[loss].clamps and self.rule.moving:
                units.targets += ((loss, rows, target),)

    def _reference(self, units: Units) -> Array:
        """Return predictions from feedforward values: those values themselves where they agree."""
        start = units.start[: units.group.active]
        steps = [step for step in self.program.steps if step.shape == units.group.shape]
        if all(bool((start[step.rows] == self.work[id(step)].mu).all()) for step in steps):
            return start
        reference = self.xp.empty_like(start)
        for step in steps:
            reference[step.rows] = self.work[id(step)].mu
        return reference

    def set_initial(self, units: Units) -> None:
        """Take values that free vertices begin with in place of the feedforward ones."""
        for row, name in enumerate(units.group.names[: units.group.free]):
            if name in self.task.initial:
                units.deviation[row] = self.xp.asarray(self.task.initial[name], self.task.dtype) - units.start[row]

    def outputs(self) -> Iterator[tuple[str, Units, Rows, Array]]:
        """Return the outputs of one loss and one shape together: loss, units, rows, (rows, batch, *shape)."""
        groups: dict[tuple[str, Shape], list[tuple[int, str]]] = defaultdict(list)
        for name in self.task.targets:
            shape, row = self.program.location[name]
            groups[self.task.losses[name], shape].append((row, name))
        for (loss, shape), found in groups.items():
            members = sorted(found)
            rows = rows_of(np.array([row for row, _ in members], np.intp))
            targets = [self.xp.asarray(self.task.targets[name], self.task.dtype) for _, name in members]
            yield loss, self.units[shape], rows, self.xp.stack(targets)

    def _everywhere(self) -> list[tuple[Shape, Rows]]:
        return [(shape, slice(0, len(group.names))) for shape, group in self.program.groups.items()]

    # -- predict ----------------------------------------------------------------------------------------

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors."""
        self.tick, self.plan = tick, self.plans.at(tick)
        if self.may_freeze:
            self.check("value", "deviation", self.plan.reach, tick)
        with np.errstate(all="ignore"):
            if self.rule.moving:
                self._predict()
        for shape, history in self.program.histories.items():
            self.histories[shape][self.clocks[shape].at(tick)] = self.units[shape].deviation[self.at(history.rows)]
        if not self.convex or tick == 0:
            self.check("error", "error", self.plan.reach, tick)

    def _predict(self) -> None:
        values = {shape: units.value for shape, units in self.units.items()}
        for shape, rows in self.plan.reach:
            units = self.units[shape]
            self.xp.add(units.start[rows], units.deviation[rows], out=units.value[rows])
        for step, rows in self.plan.active:
            self._forward(step, rows, values)
            units, here = self.units[step.shape], inside(step.rows, rows)
            self.xp.subtract(self.work[id(step)].mu, units.reference[here], out=units.shift[here])
        for shape, rows in self.plan.reach:
            units = self.units[shape]
            self.xp.subtract(units.deviation[rows], units.shift[rows], out=units.error[rows])
        for units in self.units.values():
            self._follow_losses(units)

    def _follow_losses(self, units: Units) -> None:
        """Set the errors of outputs whose loss is no clamp."""
        for loss, outputs, target in units.targets:
            rows = self.at(outputs)
            mu = units.start[rows] + units.shift[rows]
            units.error[rows] = LOSSES[loss].error(self.xp, mu, target)
            units.deviation[rows] = units.error[rows] + units.shift[rows]
            units.value[rows] = mu + units.error[rows]

    def _forward(self, step: Step, rows: Rows, values: Mapping[Shape, Array]) -> None:
        inputs = tuple(self._input(slot, rows, values) for slot in step.slots)
        params = {name: take(array, rows, len(step.names)) for name, array in self.params[id(step)].items()}
        mu, saved = step.op.forward(self.xp, step.call, params, inputs)
        self.work[id(step)] = Work(inputs, mu, saved, *ends(rows))

    def _input(self, slot: Slot, rows: Rows, values: Mapping[Shape, Array]) -> Array:
        if slot.is_parameter or slot.is_whole:
            return self._sweep_input(slot, rows)
        now = values[slot.shape][inside(self.at(slot.rows), rows)]
        if slot.late is None or not self.rule.moving:
            return now
        return self._with_late(slot, rows, now)

    def _with_late(self, slot: Slot, rows: Rows, now: Array) -> Array:
        """Replace the values that travel by what was sent as many ticks ago."""
        late, history = slot.late, self.program.histories[slot.shape]
        assert late is not None
        inputs = now.copy() if isinstance(slot.rows, slice) else now
        start, stop = ends(rows)
        here = slice(*np.searchsorted(late.positions, (start, stop)))
        lines, positions = self.at(late.lines)[here], self.at(late.positions)[here] - start
        sent = self.histories[slot.shape][self.clocks[slot.shape].at(self.tick, lines, self.at(late.delay)[here])]
        inputs[positions] = self.units[slot.shape].start[self.at(history.rows)[lines]] + sent
        return inputs

    # -- correct ----------------------------------------------------------------------------------------

    def send(self, _tick: int, /) -> None:
        """Compute the error messages of this tick."""
        self.held = self._hold()
        with np.errstate(all="ignore"):
            for step, rows in self.plan.active:
                if step.sends:
                    self._send(step, rows)

    def deliver(self, tick: int) -> None:
        """Take the error messages that are due, and sum them by receiver."""
        with np.errstate(all="ignore"):
            for shape in self.plan.traffic if self.plan.traffic is not None else self.lines:
                self._travel(shape, tick, self.held.get(shape))
            self._sum()
        self.check("error", "received", self.plan.moves, tick, due=1)

    def move(self) -> None:
        """Move the free values to the next tick."""
        self.next_tick = self.tick + 1
        with np.errstate(all="ignore"):
            for shape, rows in self.plan.moves:
                self.units[shape].move(self.at(rows))

    def _send(self, step: Step, rows: Rows) -> None:
        rows = self.at(rows)
        back = self.local(step, rows).messages(self.weighted(step, rows))
        for slot, message in zip(step.slots, back, strict=True):
            if slot.messages is not None:
                self.messages[slot.shape][inside(slot.messages, rows)] = message

    def weighted(self, step: Step, rows: Rows) -> Array:
        """Return Pi eps of some rows of a step."""
        return self.units[step.shape].weighted(inside(step.rows, rows))

    def local(self, step: Step, rows: Rows) -> Local:
        """Return the call of some rows that were worked out, as ``at`` has them; kept where predictions are fixed."""
        if self.rule.moving or not isinstance(rows, slice):
            return self._local(step, rows)
        calls, key = self.work[id(step)].calls, (rows.start, rows.stop)
        if key not in calls:
            calls[key] = self._local(step, rows)
        return calls[key]

    def _local(self, step: Step, rows: Rows) -> Local:
        work, count = self.work[id(step)], len(step.names)
        params, feedback = (
            {name: take(array, rows, count) for name, array in arrays.items()}
            for arrays in (self.params[id(step)], self.feedback[id(step)])
        )
        done, here = work.stop - work.start, shifted(rows, -work.start)
        inputs, saved = (tuple(take(array, here, done) for array in arrays) for arrays in (work.inputs, work.saved))
        mu = take(work.mu, here, done)
        return Local(self.xp, step.op, step.call, params, feedback, inputs, mu, saved)

    def _hold(self) -> dict[Shape, Array]:
        """Return the late messages that are due on, where what is sent now takes their place for a moment."""
        inboxes, traffic = self.program.inboxes, self.plan.traffic or {}
        return {
            shape: self.messages[shape][self.at(inboxes[shape].late)[self.at(flight.sent)]]
            for shape, flight in traffic.items()
        }

    def _travel(self, shape: Shape, tick: int, held: Array | None) -> None:
        """Put what is sent late on its line, and what is due in its place."""
        delay_buffer, late = self.delay_buffers[shape], self.at(self.program.inboxes[shape].late)
        lines, messages = self.lines[shape], self.messages[shape]
        if held is None or self.plan.traffic is None:
            at = delay_buffer.at(tick)
            due = lines[at]
            lines[at] = messages[late]
            messages[late] = due
            return
        setting_out, arriving = map(self.at, (self.plan.traffic[shape].sent, self.plan.traffic[shape].due))
        due = lines[delay_buffer.at(tick, arriving)]
        sent = late[setting_out]
        lines[delay_buffer.at(tick, setting_out)] = messages[sent]
        messages[sent] = held
        messages[late[arriving]] = due

    def _sum(self) -> None:
        """Sum messages by receiver, all of them or those of the rows that may move."""
        if self.plan.traffic is None:
            for shape, add in self.sums.items():
                add(self.messages[shape], out=self.units[shape].received)
            return
        for shape, rows in self.plan.moves:
            if shape in self.sums:
                self.sums[shape](self.messages[shape], out=self.units[shape].received, rows=rows)

    def check(self, what: str, name: str, where: Iterable[tuple[Shape, Rows]], tick: int | None, due: int = 0) -> None:
        """Name what is not finite; a vertex that has taught before ``tick + due`` is put to rest instead."""
        ended: dict[str, str] = {}
        for shape, rows in where:
            array = getattr(self.units[shape], name)
            if self.finite(array[self.at(rows)]):
                continue
            bad = np.nonzero(~np.isfinite(self._host(array)).all(axis=tuple(range(1, array.ndim))))[0]
            if tick is None or not self.may_freeze or self._waiting(shape, bad, tick, due).any():
                ended.update({self.program.groups[shape].names[row]: what for row in bad})
            else:
                self._freeze(shape, bad, array, tick)
        if ended:
            self._report(tick, ended)

    def _waiting(self, shape: Shape, rows: np.ndarray, tick: int, due: int) -> np.ndarray:
        """Return which rows have not taught yet, and are not about to: their numbers still matter."""
        waiting = self.levels[shape][rows] >= tick + due
        if self.rule.fires.waits:
            error = self.units[shape].error[self.at(rows)]
            fires_now = self._host((error != 0).any(axis=tuple(range(1, error.ndim)))) if due else False
            waiting |= self._yet_to_fire(shape)[rows] & ~np.asarray(fires_now)
        return np.asarray(waiting)

    def _yet_to_fire(self, shape: Shape) -> np.ndarray:
        """Return which active rows of a group have parameters to teach, and have not."""
        untaught = np.zeros(len(self.levels[shape]), bool)
        for step in self.program.steps:
            if step.shape == shape and step.learns:
                untaught[step.rows] = (self.fire_ticks[id(step)] < 0) & (step.levels >= 0)
        return untaught

    def _freeze(self, shape: Shape, rows: np.ndarray, array: Array, tick: int) -> None:
        """Let vertices rest that have taught: on a levelled graph nothing that is still to be learnt hears of them.

        One that is due at this very tick still needs its error, so what it received is all that goes.
        """
        if array is self.units[shape].received:
            messages = self.messages[shape]
            messages[~self.xp.isfinite(messages).all(axis=tuple(range(1, messages.ndim)))] = 0
            array[self.at(rows)] = 0
        else:
            self.units[shape].freeze(rows)
        for row in rows:
            self.frozen_at.setdefault(self.program.groups[shape].names[row], tick)

    def finite(self, array: Array) -> bool:
        """Return whether all numbers are finite."""
        return self.memory.finite(array)

    def _report(self, tick: int | None, ended: Mapping[str, str]) -> None:
        theta = {name: value[None] for name, value in self.parameters().items()}
        with np.errstate(all="ignore"):
            values = {vertex.name: self._value_of(vertex, theta) for vertex in self.task.graph.vertices.values()}
        inputs = partial(self._inputs_of, values)
        report(self.task.graph, values.__getitem__, inputs, partial(self._operands_of, theta), tick, ended)

    def _operands_of(self, theta: Mapping[str, np.ndarray], vertex: Vertex) -> dict[str, np.ndarray]:
        """Return what the op of a vertex takes beside its inputs, on the host."""
        learnt = {slot: theta[name] for slot, name in vertex.params}
        return learnt | operands_of(self.task).get(vertex.name, {})

    def _inputs_of(self, values: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
        """Return what a vertex predicted from; where nothing has reached it yet, what stands there."""
        shape, row = self.program.location[name]
        steps = (step for step in self.program.steps if step.shape == shape)
        step = next(step for step in steps if step.rows.start <= row < step.rows.stop)
        work = self.work[id(step)]
        here, count = row - step.rows.start - work.start, work.stop - work.start
        if not work.inputs or not 0 <= here < count:
            return tuple(values[edge.pre] for edge in self.task.graph.incoming[name])
        return tuple(self._host(take(array, slice(here, here + 1), count)) for array in work.inputs)

    def _value_of(self, vertex: Vertex, theta: Mapping[str, np.ndarray]) -> np.ndarray:
        if vertex.op.role == "parameter":
            return theta[vertex.params[0][1]][:, None]
        return self.reader("value", [vertex.name])()

    # -- play -------------------------------------------------------------------------------------------

    def advance(
        self, first: int, end: int, *, last: bool, squares: np.ndarray | None = None, apart: np.ndarray | None = None
    ) -> None:
        """Advance some ticks, and note norms of errors, and of how far they are from references, where wanted."""
        here = [kept if kept is None or self.xp is np else self.xp.asarray(kept) for kept in (squares, apart)]
        measure = self.measuring(first, *here)
        try:
            self.memory.put_off()
            tick_by_tick(self, first, end, last=last, measure=measure)
            if not self.memory.looked_well():
                self._replay(first, end, last=last, measure=measure)
        finally:
            for kept, noted in zip((squares, apart), here, strict=True):
                if kept is not None and noted is not kept:
                    kept[...] = self._host(noted)

    def compare_with(self, references: Mapping[str, np.ndarray] | None) -> None:
        """Say what errors are compared with."""
        self.references = {} if references is None else {
            shape: self.xp.stack([self.xp.asarray(references[name]) for name in group.names[: group.active]])
            for shape, group in self.program.groups.items()
            if group.active
        }  # fmt: skip

    def _replay(self, first: int, end: int, *, last: bool, measure: Callable[[int], None] | None) -> None:
        """Run again, looking at every tick: name what was not finite, or freeze what may be frozen."""
        if self.origin is None:
            self.restart()
        else:
            self.load(self.origin)
        self.memory.watch(closely=True)
        tick_by_tick(self, self.next_tick, first, last=False)
        tick_by_tick(self, first, end, last=last, measure=measure)

    def measuring(self, first: int, squares: Array | None, apart: Array | None = None) -> Callable[[int], None] | None:
        """Return what notes the squares of a tick; those that cannot have changed are carried on."""
        if squares is None and apart is None:
            return None
        active = [units.group.active for units in self.units.values()]
        starts = dict(zip(self.units, accumulate(active, initial=0), strict=False))
        all_rows = EveryRow(self.program).plan.reach

        def note(tick: int) -> None:
            for kept in (squares, apart):
                if kept is not None and tick > first:
                    kept[tick - first] = kept[tick - first - 1]
            for shape, rows in self.plan.reach if tick > first else all_rows:
                at = self.at(rows)
                error, here = self.units[shape].error[at], shifted(at, starts[shape])
                if squares is not None:
                    squares[tick - first][here] = squares_of(self.xp, error)
                if apart is not None:
                    apart[tick - first][here] = squares_of(self.xp, error - self.references[shape][at])

        return note

    # -- learn ------------------------------------------------------------------------------------------

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""
        with np.errstate(all="ignore"):
            for step in self.program.steps:
                if step.learns and (rows := self.firing(step, tick, last=last)) is not None:
                    self._accumulate(step, rows, tick)
            if self.rule.fires.applies:
                self.apply()

    def firing(self, step: Step, tick: int, *, last: bool) -> Rows | None:
        """Return the rows of a step that fire; None for none."""
        due = np.broadcast_to(self.rule.fires.due(tick, step.levels, last), len(step.names))
        if self.rule.fires.waits:
            return self._arriving(step, due)
        if not due.any():
            return None
        return slice(0, len(step.names)) if due.all() else masked(due)

    def _arriving(self, step: Step, due: np.ndarray) -> Rows | None:
        """Return the rows of a step that are due for the first time with an error that is not zero; None for none.

        An error can leave zero only where the plan has its row; one that was not due then is looked at once it is.
        """
        waiting, changed = self.waiting[id(step)], self.plan.rows.get(id(step))
        if changed is not None:
            waiting[changed] = True
        rows = masked(waiting & due & (self.fire_ticks[id(step)] < 0))
        if rows is None:
            return None
        error = self.units[step.shape].error[inside(step.rows, self.at(rows))]
        waiting[rows] = False
        return masked(spread(rows, self._host((error != 0).any(axis=tuple(range(1, error.ndim)))), len(due)))

    def _accumulate(self, step: Step, rows: Rows, tick: int) -> None:
        """Let some vertices teach; those that nothing has reached have nothing to say."""
        self.fire_ticks[id(step)][rows] = tick
        heard = overlap(rows, self.work[id(step)].start, self.work[id(step)].stop)
        if heard is not None:
            self.add_contributions(step, heard, tick)

    def add_contributions(self, step: Step, rows: Rows, tick: int) -> None:
        """Add what some rows of a step teach at this tick to what was learnt."""
        local, g = self.local(step, self.at(rows)), self.weighted(step, self.at(rows))
        made = local.contributions(g) if step.parameters else {}
        received = [(slot.shape, slot.rows, made[slot.name]) for slot in step.parameters]
        if any(slot.is_parameter for slot in step.slots):
            back = zip(step.slots, local.to_leaves(g), strict=True)
            received += [(slot.shape, slot.rows, message[:, 0]) for slot, message in back if slot.is_parameter]
        for shape, where, contribution in received:
            if not self.finite(contribution):
                overflowed(step.names[indices(rows)[0]], tick, "update", self.task.dtype)
            self._add(shape, where, rows, contribution)

    def _add(self, shape: Shape, where: Rows, rows: Rows, contribution: Array) -> None:
        """Add contributions to the parameters they are for; several users of one parameter add up."""
        if self.rule.output_variance != 1:
            contribution = contribution * self.task.dtype.type(self.rule.output_variance)
        if shape not in self.learnt:
            self.learnt[shape] = self.xp.zeros_like(self.theta[shape])
        if isinstance(where, slice) and where.stop - where.start == 1:
            self.learnt[shape][where] += contribution
        else:
            places = inside(where, rows)
            if isinstance(places, slice):
                self.learnt[shape][places] += contribution
            else:
                self.memory.add_at(self.learnt[shape], places, contribution)

    def apply(self) -> None:
        """Let parameters take what they have learnt since this was last done."""
        rate = self.task.dtype.type(self.rule.learning_rate)
        for shape, learnt in self.learnt.items():
            self.theta[shape] += (learnt - self.applied.get(shape, 0)) * rate
        self.applied = {shape: learnt.copy() for shape, learnt in self.learnt.items()}
        self._gather_parameters()

    # -- read -------------------------------------------------------------------------------------------

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by group."""
        return [group.names[: group.active] for group in self.program.groups.values() if group.active]

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices, or of edges for messages."""
        if quantity.endswith("message"):
            edges = [self.task.graph.edge(name) for name in names]
            return self.readers.of_values(edges) if quantity == "value message" else self.readers.of_errors(edges)
        return self.readers.of_vertices(quantity, names)

    def updates(self) -> dict[str, np.ndarray]:
        """Return what each parameter has learnt."""
        return self.by_name(
            {shape: self.learnt.get(shape, self.xp.zeros_like(theta)) for shape, theta in self.theta.items()}
        )

    def parameters(self) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self.by_name(self.theta)

    def by_name(self, groups: Mapping[Shape, Array]) -> dict[str, np.ndarray]:
        """Return {parameter: (*shape)}, copies on the host, of arrays (parameters, *shape) by shape."""
        rows = {shape: self._host(groups[shape]) for shape in groups}
        return {
            name: np.array(found[row])
            for shape, found in rows.items()
            for row, name in enumerate(self.program.parameters[shape])
        }

    def buffers(self) -> dict[str, np.ndarray]:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        found: dict[str, np.ndarray] = {}
        operands, theta = operands_of(self.task), {name: self._began(name)[None] for name in self.task.parameters}
        for name, vertex in self.task.graph.vertices.items():
            if vertex.op.role == "function" and vertex.op.buffers(vertex.call):
                params = {slot: theta[parameter] for slot, parameter in vertex.params} | operands.get(name, {})
                found |= moved_buffers(vertex, params, tuple(map(self._start_of, self.task.graph.incoming[name])))
        return found

    def _began(self, name: str) -> np.ndarray:
        """Return a parameter as the run began with it, whatever it has learnt since."""
        return np.asarray(self.task.parameters[name], self.task.dtype)

    def _start_of(self, edge: Edge) -> np.ndarray:
        """Return the feedforward value that an edge carries, (1, batch, *shape)."""
        vertex = self.task.graph.vertices[edge.pre]
        if vertex.op.role == "parameter":
            return self._began(vertex.params[0][1])[None, None]
        shape, row = self.program.location[edge.pre]
        return self._host(self.units[shape].start[row : row + 1])

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex: array operations, all of them."""
        return dict.fromkeys(self.task.graph.active, self.xp.__name__)

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex taught its parameters."""
        pairs = (
            (name, tick)
            for step in self.program.steps
            for name, tick in zip(step.names, self.fire_ticks[id(step)], strict=True)
        )
        return {name: int(tick) for name, tick in pairs if tick >= 0}

    def frozen(self) -> dict[str, int]:
        """Return the vertices whose numbers ended after they had taught, and the tick."""
        return dict(self.frozen_at)

    def _host(self, array: Array) -> np.ndarray:
        return self.memory.host(array)


def start(task: Task) -> Session:
    """Start a run on NumPy."""
    return updates_only(task, lambda wanted: ArraySession(wanted, np))
