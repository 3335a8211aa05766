"""The arrays of a run over a lowered program, by shape: what the phases of a tick read and write."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pcsim.arrays import Copies, keep_freed_memory, zeros_in_lines
from pcsim.engines.array.channel_lines import ChannelLines, Inactive
from pcsim.engines.array.readers import Readers
from pcsim.engines.array.rows import inside, shifted, take
from pcsim.engines.array.schedule import EveryRow
from pcsim.engines.array.units import Work, units_of
from pcsim.engines.base import may_freeze
from pcsim.engines.operands import buffer_names, moved_buffers, operands_of, source_value
from pcsim.engines.transmission import COUNTS
from pcsim.ops.local import Local
from pcsim.program.lower import lower, stacked_precisions
from pcsim.program.program import rows_of
from pcsim.program.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.engines.array.memory import Memory
    from pcsim.engines.array.schedule import Plan
    from pcsim.engines.array.units import Units
    from pcsim.engines.base import Read, Task
    from pcsim.graph.graph import Edge
    from pcsim.ops.op import Op, Params
    from pcsim.program.program import Rows, Step


class ArrayState:
    """Everything that lasts from tick to tick; arrays of a group are (rows, batch, *shape).

    Attributes
    ----------
    theta, learnt, applied : {shape: (parameters, *shape)}, values, what has been learnt, what of it has been applied
    params, feedback : by step: operands of its forward call, and of its error messages
    units : by shape of the vertices
    messages, lines, histories : by shape: error messages by edge, late ones on their way, past values
    channels : by kind of message and shape: what crosses channels
    inactive : which vertices do not act; None where all do at every tick
    """

    def __init__(
        self, task: Task, xp: Namespace, memory: Memory, *, prompt: bool = False, ops: Mapping[str, Op] | None = None
    ) -> None:
        self.task, self.xp, self.rule = task, xp, task.rule
        self.memory = memory
        self.at = self.memory.at
        self.ops = ops or {}
        """Rows that stand for those of the same name."""
        program = verify(lower(task.graph, task.rule, keep_values=task.keep_values, prompt=prompt))
        steps = tuple(replace(step, op=self.ops.get(step.op.name, step.op)) for step in program.steps)
        self.program = replace(program, steps=steps)
        self.tick = self.next_tick = 0
        self.fire_ticks = {id(step): np.full(len(step.names), -1) for step in self.program.steps}
        self.waiting = {id(step): np.zeros(len(step.names), bool) for step in self.program.steps}
        """Rows whose error may have left zero unnoticed, where a rule waits for that."""
        self.work = {id(step): Work() for step in self.program.steps}
        self.frozen_at: dict[str, int] = {}
        self.copies = Copies()
        self.may_freeze = may_freeze(task)
        self.levels = self._levels()
        # an error that lies between the last one and what was received is finite if these are
        unit = all(group.precision is None for group in self.program.groups.values())
        gentle = max([task.rule.step_size, *task.step_sizes.values()]) <= 1
        self.convex = unit and not task.rule.moving and gentle
        needs = self.program.memory(task.batch, task.dtype.itemsize)
        self.memory.admit({**needs, "updates": needs["parameters"]})
        self._viewed: dict[Shape, Array] = {}
        self._views: dict[str, np.ndarray] = {}
        """What has been learnt by each parameter, as views of these arrays."""
        self.only_views = False
        """Whether what steps read of parameters has been gathered, and shows whatever these become."""
        self.references: dict[Shape, Array] = {}
        """What errors are compared with, (active, batch, *shape)."""
        self._allocate()
        self.fill(task)
        self.plan: Plan = EveryRow(self.program).plan
        """What may differ at this tick from what it was at the tick before."""

    def fill(self, task: Task) -> None:
        """Take the parameters, the data of the sources, and what ops read beside these."""
        for shape, group in self.program.groups.items():
            units = self.units[shape]
            for row, name in enumerate(group.names[group.active :], group.active):
                units.start[row] = self.xp.asarray(task.inputs[name], task.dtype)
        self._gather_operands(task)
        self.take_parameters(task)
        for lines in self.channels.values():
            lines.begin(task)
        if self.inactive is not None:
            self.inactive.begin(task)

    def take_precisions(self, task: Task) -> None:
        """Take the precisions of a task; only where some may change."""
        for shape, group in self.program.groups.items():
            here, names = self.units[shape].precision, group.names[: group.active]
            if here is not None:
                here[...] = self.xp.asarray(stacked_precisions(task.graph, names, shape, task.rule), task.dtype)

    def take_parameters(self, task: Task) -> None:
        """Take the parameters; those that are the session's own arrays are there already."""
        for name, here in self.own.items():
            given = task.parameters[name]
            if given is not here:
                here[...] = self.xp.asarray(given, task.dtype)
        if not self.only_views:
            self.gather_parameters()
            self.only_views = all(
                step.feedback.symmetric and all(isinstance(slot.rows, slice) for slot in step.parameters)
                for step in self.program.steps
            )

    @cached_property
    def own(self) -> dict[str, Array]:
        """Views of the parameters: {name: (*shape)}."""
        return {
            name: self.theta[shape][row, ...]
            for shape, names in self.program.parameters.items()
            for row, name in enumerate(names)
        }

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

    def gather_parameters(self) -> None:
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

    def clear(self) -> None:
        """Forget the run."""
        self.tick = self.next_tick = 0
        self.applied.clear()
        self.frozen_at.clear()
        for array in (*self.learnt.values(), *self.histories.values(), *self.lines.values(), *self.messages.values()):
            array[...] = 0
        for units in self.units.values():
            units.clear()
        for fired, waiting in zip(self.fire_ticks.values(), self.waiting.values(), strict=True):
            fired[...], waiting[...] = -1, False
        for key, work in self.work.items():
            self.work[key] = Work(saved=work.saved)

    def hold(self) -> None:
        """Take the values that vertices on cycles begin with: they have no feedforward ones."""
        for step in self.program.held:
            values = [self.xp.asarray(self.task.initial[name], self.task.dtype) for name in step.names]
            self.units[step.shape].start[step.rows] = self.xp.stack(values)

    def set_initial(self, units: Units) -> None:
        """Take values that free vertices begin with in place of the feedforward ones."""
        for row, name in enumerate(units.group.names[: units.group.free]):
            if name in self.task.initial:
                units.deviation[row] = self.xp.asarray(self.task.initial[name], self.task.dtype) - units.start[row]

    def outputs(self) -> Iterator[tuple[str, Units, Rows, Array]]:
        """Return the outputs of one loss and one shape together: loss, units, rows, (rows, batch, *shape)."""
        for loss, shape, rows, names in self._outputs:
            targets = [self.xp.asarray(self.task.targets[name], self.task.dtype) for name in names]
            yield loss, self.units[shape], rows, self.xp.stack(targets) if len(targets) > 1 else targets[0][None]

    @cached_property
    def _outputs(self) -> list[tuple[str, Shape, Rows, list[str]]]:
        groups: dict[tuple[str, Shape], list[tuple[int, str]]] = defaultdict(list)
        for name in self.task.targets:
            shape, row = self.program.location[name]
            groups[self.task.losses[name], shape].append((row, name))
        return [
            (loss, shape, rows_of(np.array([row for row, _ in sorted(found)], np.intp)), [n for _, n in sorted(found)])
            for (loss, shape), found in groups.items()
        ]

    def everywhere(self) -> list[tuple[Shape, Rows]]:
        """Return all rows of all groups."""
        return [(shape, slice(0, len(group.names))) for shape, group in self.program.groups.items()]

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
        return Local(self.xp, step.op, step.call, params, feedback, inputs, mu, saved, step.feedback)

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by group."""
        return [group.names[: group.active] for group in self.program.groups.values() if group.active]

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices, or of edges for messages."""
        if quantity.endswith(("message", *COUNTS)):
            edges = [self.task.graph.edge(name) for name in names]
            if not quantity.endswith("message"):
                return self.readers.of_counts(quantity, edges)
            return self.readers.of_values(edges) if quantity == "value message" else self.readers.of_errors(edges)
        return self.readers.of_vertices(quantity, names)

    def updates(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return what each parameter has learnt; without copies views of the session's own arrays."""
        if copy or self.learnt.keys() != self.theta.keys() or self.xp is not np:
            return self.learnt_of(self.learnt, copy=copy)
        if not all(self.learnt[shape] is array for shape, array in self._viewed.items()) or not self._viewed:
            self._viewed = dict(self.learnt)
            self._views = self.learnt_of(self.learnt, copy=False)
        return dict(self._views)

    def learnt_of(self, groups: Mapping[Shape, Array], *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return {parameter: (*shape)}, zeros where nothing of a shape has learnt yet."""
        return self.by_name(
            {
                shape: groups[shape] if shape in groups else self.xp.zeros_like(theta)
                for shape, theta in self.theta.items()
            },
            copy=copy,
        )

    def parameters(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self.by_name(self.theta, copy=copy) if copy or self.xp is not np else dict(self.own)

    def by_name(self, groups: Mapping[Shape, Array], *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return {parameter: (*shape)} on the host, of arrays (parameters, *shape) by shape; copies where asked for."""
        host = {shape: self.host(array) for shape, array in groups.items()}
        rows = {shape: self.copies.of(array) for shape, array in host.items()} if copy else host
        return {
            name: found[row, ...]
            for shape, found in rows.items()
            for row, name in enumerate(self.program.parameters[shape])
        }

    def buffers(self) -> dict[str, np.ndarray]:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        found: dict[str, np.ndarray] = {}
        if not buffer_names(self.task.graph):
            return found
        operands, theta = operands_of(self.task), {name: self._began(name)[None] for name in self.task.parameters}
        for name, vertex in self.task.graph.vertices.items():
            if vertex.op.role == "function" and vertex.buffers:
                params = {slot: theta[parameter] for slot, parameter in vertex.params} | operands.get(name, {})
                inputs = tuple(map(self._start_of, self.task.graph.incoming[name]))
                found |= moved_buffers(vertex, params, inputs, self.ops.get(vertex.op.name))
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
        return self.host(self.units[shape].start[row : row + 1])

    def fired(self) -> dict[str, int]:
        """Return the tick at which the parameters that each vertex uses took its error."""
        pairs = (
            (name, tick)
            for step in self.program.steps
            for name, tick in zip(step.names, self.fire_ticks[id(step)], strict=True)
        )
        return {name: int(tick) for name, tick in pairs if tick >= 0}

    def frozen(self) -> dict[str, int]:
        """Return the vertices that became NaN or infinite after they had fired and were frozen, and the tick."""
        return dict(self.frozen_at)

    def finite(self, array: Array) -> bool:
        """Return whether all numbers are finite."""
        return self.memory.finite(array)

    def compare_with(self, references: Mapping[str, np.ndarray] | None) -> None:
        """Say what errors are compared with."""
        self.references = {} if references is None else {
            shape: self.xp.stack([self.xp.asarray(references[name]) for name in group.names[: group.active]])
            for shape, group in self.program.groups.items()
            if group.active
        }  # fmt: skip

    def _levels(self) -> dict[Shape, np.ndarray]:
        """Return the level of every active row of each group."""
        levels = {shape: np.full(group.active, -1) for shape, group in self.program.groups.items()}
        for step in self.program.steps:
            levels[step.shape][step.rows] = step.levels
        return levels

    def _allocate(self) -> None:
        """Make every array that lasts for the session."""
        xp, task, program = self.xp, self.task, self.program
        keep_freed_memory()

        def rows(count: int, shape: Shape) -> Array:
            return zeros_in_lines(xp, (count, task.batch, *shape), task.dtype)

        self.theta = {shape: xp.zeros((len(names), *shape), task.dtype) for shape, names in program.parameters.items()}
        self.learnt: dict[Shape, Array] = {}
        self.held: dict[Shape, Array] = {}
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
        self.channels = {
            (kind, shape): ChannelLines(found, shape, task, self.memory)
            for (kind, shape), found in program.channels.items()
        }
        self.inactive = Inactive(program, self.memory) if task.graph.has_channels else None
        state = (self.units, self.histories, self.messages, self.channels)
        self.readers = Readers(program, *state, self.host, lambda: self.tick, self.at, self.clocks)

    def host(self, array: Array) -> np.ndarray:
        """Return an array on the host."""
        return self.memory.host(array)
