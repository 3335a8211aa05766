"""The vectorised engine: all actors of a kind in one array operation, over an array namespace ``xp``.

Arrays of a bank are (rows, batch, *shape). The state is the deviation from the feedforward values; the error
of a vertex is ``deviation - shift``, where ``shift`` is how far its prediction has moved, and exactly
zero while no input has moved, because the same operation on the same numbers gives the same bits.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.base import may_rest
from pcsim.engines.faults import overflowed, report
from pcsim.engines.readers import Readers
from pcsim.engines.rows import by_depth, indices, inside, masked, take
from pcsim.engines.sums import Sum
from pcsim.engines.units import Units, Work, blend, units_of
from pcsim.ops import LOSSES
from pcsim.program.lower import lower
from pcsim.program.program import rows_of
from pcsim.program.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.engines.base import Read, Task
    from pcsim.graph.graph import Vertex
    from pcsim.program.program import Post, Rows, Slot, Step


class ArraySession:
    """A run of a lowered program."""

    def __init__(self, task: Task, xp: Namespace) -> None:
        self.task, self.xp, self.rule = task, xp, task.rule
        self.program = verify(lower(task.graph, task.rule, keep_values=task.keep_values))
        self.tick = 0
        self.theta = {
            shape: xp.stack([xp.asarray(task.parameters[name], task.dtype) for name in names])
            for shape, names in self.program.parameters.items()
        }
        self.learnt: dict[Shape, Array] = {}
        self.applied: dict[Shape, Array] = {}
        self.taught = {id(step): np.full(len(step.names), -1) for step in self.program.steps}
        self.work = {id(step): Work() for step in self.program.steps}
        self.messages: dict[Shape, Array] = {}
        self.resting: dict[str, int] = {}
        self.may_rest = may_rest(task)
        self.levels = self._levels()
        # an error that lies between the last one and what was received is finite if these are
        unit = all(bank.precision is None for bank in self.program.banks.values())
        self.convex = unit and not task.rule.moving and task.rule.step_size <= 1
        with np.errstate(all="ignore"):
            self._gather_parameters()
            self.units = {shape: units_of(bank, task, xp) for shape, bank in self.program.banks.items()}
            self.histories = {
                shape: xp.zeros((history.ring.slots, task.batch, *shape), task.dtype)
                for shape, history in self.program.histories.items()
            }
            self.readers = Readers(
                self.program, self.units, self.histories, self.messages, self._host, lambda: self.tick
            )
            self._sweep()
            self._settle()
        self._open_posts()

    # -- start ------------------------------------------------------------------------------------------

    def _levels(self) -> dict[Shape, np.ndarray]:
        """Return the level of every active row of each bank."""
        levels = {shape: np.full(bank.active, -1) for shape, bank in self.program.banks.items()}
        for step in self.program.steps:
            levels[step.shape][step.rows] = step.levels
        return levels

    def _gather_parameters(self) -> None:
        """Take each step's parameters: views where rows are consecutive, copies where they are not."""
        self.params = {
            id(step): {slot.name: self.theta[slot.shape][slot.rows] for slot in step.parameters}
            for step in self.program.steps
        }

    def _sweep(self) -> None:
        """Set the feedforward values, depth by depth."""
        for step, rows in by_depth(self.program.steps):
            inputs = tuple(self._sweep_input(slot, rows) for slot in step.slots)
            params = {name: take(array, rows, len(step.names)) for name, array in self.params[id(step)].items()}
            mu, _ = step.op.forward(self.xp, step.call, params, inputs)
            self.units[step.shape].start[inside(step.rows, rows)] = mu
        self._check("value", {shape: units.start for shape, units in self.units.items()}, None)

    def _sweep_input(self, slot: Slot, rows: Rows) -> Array:
        if slot.is_parameter:
            return take(self.theta[slot.shape][slot.rows], rows, len(slot.edges))[:, None]
        return self.units[slot.shape].start[inside(slot.rows, rows)]

    def _settle(self) -> None:
        """Predict from the feedforward values, clamp the outputs, set the values at tick 0."""
        self._forward({shape: units.start for shape, units in self.units.items()})
        for units in self.units.values():
            units.reference = self._reference(units) if self.rule.moving else None
            self._set_initial(units)
        for loss, units, rows, target in self._outputs():
            units.deviation[rows] = LOSSES[loss].error(self.xp, units.start[rows], target)
            if loss != "squared_error" and self.rule.moving:
                units.targets += ((loss, rows, target),)
        if not self.rule.moving:
            for step in self.program.steps:
                self.work[id(step)].mu = self.units[step.shape].start[step.rows]

    def _reference(self, units: Units) -> Array:
        reference = self.xp.empty_like(units.deviation)
        for step in self.program.steps:
            if step.shape == units.bank.shape:
                reference[step.rows] = self.work[id(step)].mu
        same = bool((reference == units.start[: units.bank.active]).all())
        return units.start[: units.bank.active] if same else reference

    def _set_initial(self, units: Units) -> None:
        for row, name in enumerate(units.bank.names[: units.bank.free]):
            if name in self.task.initial:
                units.deviation[row] = self.xp.asarray(self.task.initial[name], self.task.dtype) - units.start[row]

    def _outputs(self) -> Iterator[tuple[str, Units, Rows, Array]]:
        """Return the outputs of one loss and one shape together: loss, units, rows, (rows, batch, *shape)."""
        groups: dict[tuple[str, Shape], list[tuple[int, str]]] = defaultdict(list)
        for name in self.task.targets:
            shape, row = self.program.place[name]
            groups[self.task.losses[name], shape].append((row, name))
        for (loss, shape), found in groups.items():
            members = sorted(found)
            rows = rows_of(np.array([row for row, _ in members], np.intp))
            targets = [self.xp.asarray(self.task.targets[name], self.task.dtype) for _, name in members]
            yield loss, self.units[shape], rows, self.xp.stack(targets)

    def _open_posts(self) -> None:
        xp, task = self.xp, self.task
        self.lines, self.sums = {}, {}
        for units in self.units.values():
            units.received = xp.zeros_like(units.deviation[: units.bank.free])
        self.silent = [rows for shape in self.units for rows in self._silent(shape)]
        for shape, post in self.program.posts.items():
            units = self.units[shape]
            if post.direct is None:
                self.messages[shape] = xp.zeros((len(post.receivers), task.batch, *shape), task.dtype)
                self.sums[shape] = Sum(xp, post.order, post.starts, task.dtype)
            else:
                self.messages[shape] = units.received[post.direct]
            if len(post.late):
                self.lines[shape] = xp.zeros((post.ring.slots, task.batch, *shape), task.dtype)

    def _silent(self, shape: Shape) -> list[Array]:
        """Return the rows of what is received that no message overwrites: they are cleared at each tick."""
        received, post = self.units[shape].received, self.program.posts.get(shape)
        if post is None:
            return [received]
        if post.direct is None:
            return []
        return [rows for rows in (received[: post.direct.start], received[post.direct.stop :]) if len(rows)]

    # -- predict ----------------------------------------------------------------------------------------

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors."""
        self.tick = tick
        if self.may_rest:
            self._check("value", {shape: units.deviation for shape, units in self.units.items()}, tick)
        with np.errstate(all="ignore"):
            if self.rule.moving:
                self._predict()
        if not self.convex or tick == 0:
            self._check("error", {shape: units.error for shape, units in self.units.items()}, tick)
        for shape, history in self.program.histories.items():
            self.histories[shape][history.ring.at(tick)] = self.units[shape].deviation[history.rows]

    def _predict(self) -> None:
        for units in self.units.values():
            active = units.bank.active
            self.xp.add(units.start[:active], units.deviation, out=units.value[:active])
        self._forward({shape: units.value for shape, units in self.units.items()})
        for step in self.program.steps:
            units = self.units[step.shape]
            self.xp.subtract(self.work[id(step)].mu, units.reference[step.rows], out=units.shift[step.rows])
        for units in self.units.values():
            self._errors(units)

    def _errors(self, units: Units) -> None:
        self.xp.subtract(units.deviation, units.shift, out=units.error)
        for loss, rows, target in units.targets:
            mu = units.start[rows] + units.shift[rows]
            units.error[rows] = LOSSES[loss].error(self.xp, mu, target)
            units.deviation[rows] = units.error[rows] + units.shift[rows]
            units.value[rows] = mu + units.error[rows]

    def _forward(self, values: Mapping[Shape, Array]) -> None:
        for step in self.program.steps:
            inputs = tuple(self._input(slot, values) for slot in step.slots)
            mu, saved = step.op.forward(self.xp, step.call, self.params[id(step)], inputs)
            self.work[id(step)] = Work(inputs, mu, saved)

    def _input(self, slot: Slot, values: Mapping[Shape, Array]) -> Array:
        if slot.is_parameter:
            return self.theta[slot.shape][slot.rows][:, None]
        now = values[slot.shape][slot.rows]
        if slot.late is None or not self.rule.moving:
            return now
        return self._with_late(slot, now)

    def _with_late(self, slot: Slot, now: Array) -> Array:
        """Replace the values that travel by what was sent as many ticks ago."""
        late, history = slot.late, self.program.histories[slot.shape]
        assert late is not None
        inputs = now.copy() if isinstance(slot.rows, slice) else now
        sent = self.histories[slot.shape][history.ring.at(self.tick, late.lines, late.delay)]
        inputs[late.positions] = self.units[slot.shape].start[history.rows[late.lines]] + sent
        return inputs

    # -- correct ----------------------------------------------------------------------------------------

    def send(self, tick: int) -> None:
        """Send errors and sum those due."""
        with np.errstate(all="ignore"):
            for rows in self.silent:
                rows[...] = 0
            for step in self.program.steps:
                if step.sends:
                    self._send(step)
            for shape, post in self.program.posts.items():
                self._deliver(shape, post, tick)
        self._check("error", {shape: units.received for shape, units in self.units.items()}, tick, due=1)

    def move(self) -> None:
        """Move the free values to the next tick."""
        with np.errstate(all="ignore"):
            for units in self.units.values():
                self._move(units)

    def _send(self, step: Step) -> None:
        back = self._back(step)
        for slot, message in zip(step.slots, back, strict=True):
            if slot.messages is not None:
                self.messages[slot.shape][slot.messages] = message

    def _back(self, step: Step) -> tuple[Array, ...]:
        work, g = self.work[id(step)], self.units[step.shape].weighted(step.rows)
        return step.op.to_inputs(self.xp, step.call, self.params[id(step)], work.inputs, work.mu, work.saved, g)

    def _deliver(self, shape: Shape, post: Post, tick: int) -> None:
        messages = self.messages[shape]
        if len(post.late):
            lines, at = self.lines[shape], post.ring.at(tick)
            due = lines[at]
            lines[at] = messages[post.late]
            messages[post.late] = due
        if post.direct is None:
            self.sums[shape](messages, out=self.units[shape].received)

    def _move(self, units: Units) -> None:
        """Move free values: x += gamma (-Pi eps + sum), written so that gamma = 1 moves what arrived bit for bit."""
        free = slice(0, units.bank.free)
        kind, gamma = self.task.dtype.type, self.rule.step_size
        deviation, push = units.deviation[free], units.received
        if units.precision is None:
            blend(deviation, push, None if units.shift is None else units.shift[free], kind(1 - gamma), kind(gamma))
            return
        if units.shift is not None:
            push += units.precision[free] * units.shift[free]
        deviation *= 1 - kind(gamma) * units.precision[free]
        deviation += kind(gamma) * push

    def _check(self, what: str, arrays: Mapping[Shape, Array], tick: int | None, due: int = 0) -> None:
        """Name what is not finite; a vertex that has taught before ``tick + due`` is put to rest instead."""
        ended: dict[str, str] = {}
        for shape, array in arrays.items():
            if self._finite(array):
                continue
            bad = np.nonzero(~np.isfinite(self._host(array)).all(axis=tuple(range(1, array.ndim))))[0]
            if tick is None or not self.may_rest or self._waiting(shape, bad, tick, due).any():
                ended.update({self.program.banks[shape].names[row]: what for row in bad})
            else:
                self._rest(shape, bad, array, tick)
        if ended:
            self._report(tick, ended)

    def _waiting(self, shape: Shape, rows: np.ndarray, tick: int, due: int) -> np.ndarray:
        """Return which rows have not taught yet, and are not about to: their numbers still matter."""
        waiting = self.levels[shape][rows] >= tick + due
        if self.rule.fires == "arrival":
            error = self.units[shape].error[rows]
            fires_now = self._host((error != 0).any(axis=tuple(range(1, error.ndim)))) if due else False
            waiting |= self._untaught(shape)[rows] & ~np.asarray(fires_now)
        return np.asarray(waiting)

    def _untaught(self, shape: Shape) -> np.ndarray:
        """Return which active rows of a bank have parameters to teach, and have not."""
        untaught = np.zeros(len(self.levels[shape]), bool)
        for step in self.program.steps:
            if step.shape == shape and step.learns:
                untaught[step.rows] = (self.taught[id(step)] < 0) & (step.levels >= 0)
        return untaught

    def _rest(self, shape: Shape, rows: np.ndarray, array: Array, tick: int) -> None:
        """Let vertices rest that have taught: on a levelled graph nothing that is still to be learnt hears of them.

        One that is due at this very tick still needs its error, so what it received is all that goes.
        """
        if array is self.units[shape].received:
            messages = self.messages[shape]
            messages[~self.xp.isfinite(messages).all(axis=tuple(range(1, messages.ndim)))] = 0
            array[rows] = 0
        else:
            self.units[shape].rest(rows)
        for row in rows:
            self.resting.setdefault(self.program.banks[shape].names[row], tick)

    def _finite(self, array: Array) -> bool:
        """One pass over memory: NaN and infinity survive a sum, but a sum may overflow: hence the second look."""
        with np.errstate(all="ignore"):
            return bool(self.xp.isfinite(self.xp.sum(array))) or bool(self.xp.isfinite(array).all())

    def _report(self, tick: int | None, ended: Mapping[str, str]) -> None:
        theta = {name: value[None] for name, value in self.parameters().items()}
        with np.errstate(all="ignore"):
            values = {vertex.name: self._value_of(vertex, theta) for vertex in self.task.graph.vertices.values()}
        inputs = partial(self._inputs_of, values)
        report(self.task.graph, values.__getitem__, inputs, theta.__getitem__, tick, ended)

    def _inputs_of(self, values: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
        """Return what a vertex predicted from; before the first prediction, the values of the sweep."""
        shape, row = self.program.place[name]
        steps = (step for step in self.program.steps if step.shape == shape)
        step = next(step for step in steps if step.rows.start <= row < step.rows.stop)
        here = row - step.rows.start
        inputs = self.work[id(step)].inputs
        if not inputs:
            return tuple(values[edge.pre] for edge in self.task.graph.incoming[name])
        return tuple(self._host(take(array, slice(here, here + 1), len(step.names))) for array in inputs)

    def _value_of(self, vertex: Vertex, theta: Mapping[str, np.ndarray]) -> np.ndarray:
        if vertex.op.role == "parameter":
            return theta[vertex.params[0][1]][:, None]
        return self.reader("value", [vertex.name])()

    # -- learn ------------------------------------------------------------------------------------------

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""
        with np.errstate(all="ignore"):
            for step in self.program.steps:
                if step.learns and (rows := self._firing(step, tick, last=last)) is not None:
                    self._teach(step, rows, tick)
                    self.taught[id(step)][rows] = tick
            if self.rule.fires == "every":
                self._apply()

    def _firing(self, step: Step, tick: int, *, last: bool) -> Rows | None:
        """Return the rows of a step that fire; None for none."""
        fires = self.rule.fires
        if fires == "every" or (fires == "end" and last):
            return slice(0, len(step.names))
        if fires == "level":
            return masked(step.levels == tick)
        if fires == "arrival":
            error = self.units[step.shape].error[step.rows]
            new = self._host((error != 0).any(axis=tuple(range(1, error.ndim))))
            return masked(new & (self.taught[id(step)] < 0) & (step.levels >= 0))
        return None

    def _teach(self, step: Step, rows: Rows, tick: int) -> None:
        count = len(step.names)
        work, g = self.work[id(step)], self.units[step.shape].weighted(step.rows)
        inputs = tuple(take(array, rows, count) for array in work.inputs)
        saved = tuple(take(array, rows, count) for array in work.saved)
        params = {name: take(array, rows, count) for name, array in self.params[id(step)].items()}
        args = (self.xp, step.call, params, inputs, take(work.mu, rows, count), saved, take(g, rows, count))
        lessons = step.op.to_params(*args) if step.parameters else {}
        taught = [(slot.shape, slot.rows, lessons[slot.name]) for slot in step.parameters]
        if any(slot.is_parameter for slot in step.slots):
            back = zip(step.slots, step.op.to_inputs(*args), strict=True)
            taught += [(slot.shape, slot.rows, message[:, 0]) for slot, message in back if slot.is_parameter]
        for shape, where, lesson in taught:
            if not self._finite(lesson):
                overflowed(step.names[indices(rows)[0]], tick, "update", self.task.dtype)
            self._add(shape, where, rows, lesson)

    def _add(self, shape: Shape, where: Rows, rows: Rows, lesson: Array) -> None:
        """Add lessons to the parameters they are for; several users of one parameter add up."""
        if self.rule.output_variance != 1:
            lesson = self.task.dtype.type(self.rule.output_variance) * lesson
        if shape not in self.learnt:
            self.learnt[shape] = self.xp.zeros_like(self.theta[shape])
        if isinstance(where, slice) and where.stop - where.start == 1:
            self.learnt[shape][where] += lesson
        else:
            places = inside(where, rows)
            if isinstance(places, slice):
                self.learnt[shape][places] += lesson
            else:
                self.xp.add.at(self.learnt[shape], places, lesson)

    def _apply(self) -> None:
        rate = self.task.dtype.type(self.rule.learning_rate)
        for shape, learnt in self.learnt.items():
            self.theta[shape] += rate * (learnt - self.applied.get(shape, 0))
        self.applied = {shape: learnt.copy() for shape, learnt in self.learnt.items()}
        self._gather_parameters()

    # -- read -------------------------------------------------------------------------------------------

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by bank."""
        return [bank.names[: bank.active] for bank in self.program.banks.values() if bank.active]

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices, or of edges for messages."""
        if quantity.endswith("message"):
            edges = [self.task.graph.edge(name) for name in names]
            return self.readers.of_values(edges) if quantity == "value message" else self.readers.of_errors(edges)
        return self.readers.of_vertices(quantity, names)

    def updates(self) -> dict[str, np.ndarray]:
        """Return what each parameter has learnt."""
        return self._by_name(
            {shape: self.learnt.get(shape, self.xp.zeros_like(theta)) for shape, theta in self.theta.items()}
        )

    def parameters(self) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self._by_name(self.theta)

    def _by_name(self, banks: Mapping[Shape, Array]) -> dict[str, np.ndarray]:
        rows = {shape: self._host(banks[shape]) for shape in self.program.parameters}
        return {
            name: rows[shape][row] for shape, names in self.program.parameters.items() for row, name in enumerate(names)
        }

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex taught its parameters."""
        pairs = (
            (name, tick)
            for step in self.program.steps
            for name, tick in zip(step.names, self.taught[id(step)], strict=True)
        )
        return {name: int(tick) for name, tick in pairs if tick >= 0}

    def rested(self) -> dict[str, int]:
        """Return the vertices whose numbers ended after they had taught, and the tick."""
        return dict(self.resting)

    def _host(self, array: Array) -> np.ndarray:
        host: np.ndarray = array if self.xp is np else self.xp.asnumpy(array)
        return host


def start(task: Task) -> ArraySession:
    """Start a run on NumPy."""
    return ArraySession(task, np)
