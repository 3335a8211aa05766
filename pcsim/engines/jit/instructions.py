"""What a tick is: which kernel for which rows, in which order, and where steps without a kernel are called."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property, partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array.rows import by_depth
from pcsim.engines.jit import flows
from pcsim.engines.jit.kernels import dense, flow, groups, past, population, weighted
from pcsim.engines.jit.kernels.common import STEP
from pcsim.engines.jit.kinds import KINDS
from pcsim.engines.jit.projections import shares
from pcsim.engines.jit.segments import ArrayCall, Compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcsim.engines.jit.array_steps import ArrayStep
    from pcsim.engines.jit.kernels.records import Record
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.parts import Parts
    from pcsim.engines.jit.segments import Instruction, Segment, Sharing
    from pcsim.program.program import ShapeGroup, Step

RECORDS: dict[str, Record] = {
    **{kind.kernel.py_func.__name__: STEP for kind in KINDS.values()},
    **dict.fromkeys(("move", "stay", "materialise", "deliver", "measure", "measure_first"), groups.GROUP),
    "remember": groups.HISTORY,
    "recall": groups.RECALL,
    "recall_next": groups.RECALL,
    "remember_values": past.PAST,
    "flow": flow.FLOW,
    "collect": flow.FLOW,
    "answer": STEP,
    "answer_bundle": weighted.ANSWER,
    "pack_weight": dense.PACKING,
    "arrange_forward": STEP,
    "arrange_backward": STEP,
}
"""Which kind of record each kernel works on, by its name."""

HEAVY = 512
"""Numbers of a vertex for each thread, from which on an instruction of its own costs it little."""


class Instructions:
    """The segments of a program; those of a tick are made when they are first needed.

    Attributes
    ----------
    sweeping, preparing, acting, remembering, delivering, staying : the sweep, and the parts of a tick that is read
    ticking, noting, comparing : whole ticks in which nothing is read; ``noting`` takes squares of errors too, and
        ``comparing`` also how far errors are from what they are compared with
    measuring : takes both
    measures : squares are taken by ``measuring``; otherwise vertices note them as they move
    arranging : puts the weights of layers and populations into the order of their products
    returning : the sweep back, where each error message is taken once
    """

    def __init__(self, layout: Layout, sharing: Sharing) -> None:
        self.layout, self.sharing = layout, sharing
        self.program, self.moving = layout.arrays.program, layout.moving
        shapes = self.program.groups.items()
        self.active = [(layout.groups[shape], group.active) for shape, group in shapes if group.active]
        """Place of each shape group, and how many vertices of it act."""
        self.remembered = [sharing.each(groups.remember, place, lines) for place, lines in layout.histories]
        self.kept = [sharing.each(past.remember_values, place, past.PIECES) for place in layout.keeping]
        self.answered = self._answering()
        self.flow, self.receivers = flows.lay_out(layout) if layout.flowing else (-1, 0)
        """Place of the free vertices that take errors from where they lie, and how many there are."""
        self.measures = self.moving or not (layout.flowing and any(group.free for group in self._groups()))

    def _groupwise(self, kernel: Any) -> list[Instruction]:
        """Return the instructions that run a kernel on all shape groups."""
        return [self.sharing.each(kernel, place, count) for place, count in self.active]

    @cached_property
    def sweeping(self) -> list[Segment]:
        """The sweep, depth by depth, cut where a step has no kernel."""
        return self._cut(self._forward())

    @cached_property
    def returning(self) -> list[Segment]:
        """The sweep back, the deepest vertices first: each sums what is due to it, and sends."""
        return self._cut(self._back())

    @cached_property
    def preparing(self) -> list[Compiled]:
        """Values that arrive late, and values from deviations."""
        recalling = [self.sharing.each(groups.recall, place, count) for place, count in self.layout.recalls]
        return self.sharing.segment([*recalling, *(self._groupwise(groups.materialise) if self.moving else ())])

    @cached_property
    def acting(self) -> list[Segment]:
        """All steps."""
        return [
            *self._calls(),
            *self.sharing.segment([self._step(step) for step in self._acting()], self.answered),
        ]

    @cached_property
    def remembering(self) -> list[Compiled]:
        """What populations remember."""
        return self.sharing.segment(self.remembered, self.kept)

    @cached_property
    def delivering(self) -> list[Compiled]:
        """Messages that are due."""
        return self.sharing.segment(self._groupwise(groups.deliver))

    @cached_property
    def staying(self) -> list[Compiled]:
        """Moving, where messages have been summed."""
        return self.sharing.segment(self._groupwise(groups.stay))

    @cached_property
    def measuring(self) -> list[Compiled]:
        """Squares of errors."""
        return self.sharing.segment(self._groupwise(groups.measure))

    @cached_property
    def arranging(self) -> list[Compiled]:
        """Weights of layers and populations in the order of their products."""
        return self.sharing.segment(self._arranging())

    @cached_property
    def ticking(self) -> list[Segment]:
        """Whole ticks in which nothing is read."""
        return self._tick((), ())

    @cached_property
    def comparing(self) -> list[Segment]:
        """Whole ticks in which squares are taken by ``measuring``."""
        return self._tick((), self._groupwise(groups.measure))

    @cached_property
    def noting(self) -> list[Segment]:
        """Whole ticks in which vertices note squares as they move, where they can."""
        return self.comparing if self.measures else self._tick(self._groupwise(groups.measure_first), ())

    def count(self) -> int:
        """Return how many instructions a tick is in which nothing is read."""
        return sum(len(segment.instructions) for segment in self.ticking if isinstance(segment, Compiled))

    def _groups(self) -> Sequence[ShapeGroup]:
        return list(self.program.groups.values())

    def _acting(self) -> list[Step]:
        """Return the steps with a kernel that predict or send in a tick."""
        steps = [step for step in self.program.steps if self.moving or step.sends]
        return [step for step in steps if id(step) not in self.layout.array_steps]

    def _calls(self) -> list[ArrayCall]:
        """Return what steps without a kernel do in a tick: they act first, on what the tick before has left."""
        found = self.layout.array_steps.values()
        return [ArrayCall(each.step.names[0], each.act) for each in found if self.moving or each.step.sends]

    # -- sweeps ---------------------------------------------------------------------------------------------

    def _cut(self, parts: Iterable[Sequence[Instruction] | ArrayCall]) -> list[Segment]:
        """Return phases, and array calls in between, as segments."""
        segments: list[Segment] = []
        phases: list[Sequence[Instruction]] = []
        for part in parts:
            if isinstance(part, ArrayCall):
                segments += [*self.sharing.segment(*phases), part]
                phases = []
            else:
                phases.append(part)
        return [*segments, *self.sharing.segment(*phases)]

    def _forward(self) -> Iterator[Sequence[Instruction] | ArrayCall]:
        """Yield what sets feedforward values, depth by depth; those on cycles are given."""
        for step, rows in by_depth(self.program.swept):
            if array_step := self.layout.array_steps.get(id(step)):
                yield ArrayCall(step.names[0], partial(_swept, array_step, rows))
            else:
                yield [self._step(step, rows)]

    def _back(self) -> Iterator[Sequence[Instruction] | ArrayCall]:
        """Yield what sums errors and sends them, the deepest vertices first: all that is due to one is there then."""
        receiving, sending, answering = self._receiving(), self._sending(), self._answers()
        for depth in sorted({*receiving, *sending}, reverse=True):
            if depth in receiving:
                yield [self.sharing.each(flow.collect, self.flow, *receiving[depth])]
            compiled: list[Instruction] = []
            for step, rows in sending.get(depth, ()):
                if array_step := self.layout.array_steps.get(id(step)):
                    yield ArrayCall(step.names[0], partial(_answered, array_step, rows))
                else:
                    compiled.append(self._step(step, rows))
            yield compiled
            yield answering.get(depth, [])

    def _receiving(self) -> dict[int, tuple[int, int]]:
        """Return which free vertices are of each depth: last + 1, and first, in the order in which they lie."""
        graph = self.program.graph
        depths = [graph.depths[name] for name in graph.active if graph.role(name) == "free"]
        firsts = {depth: place for place, depth in reversed(list(enumerate(depths)))}
        ends = {depth: place + 1 for place, depth in enumerate(depths)}
        return {depth: (ends[depth], first) for depth, first in firsts.items()}

    def _sending(self) -> dict[int, list[tuple[Step, slice]]]:
        """Return what writes messages, by depth."""
        found: dict[int, list[tuple[Step, slice]]] = defaultdict(list)
        for step, rows in by_depth([step for step in self.program.steps if step.sends]):
            if id(step) in self.layout.array_steps or not self._flows(step):
                found[int(step.depths[rows.start])].append((step, rows))
        return found

    def _answers(self) -> dict[int, list[Instruction]]:
        """Return what answers for bundles, by their depth: all units of one take the same inputs."""
        found: dict[int, list[Instruction]] = defaultdict(list)
        for place, one in self.layout.answering:
            answer = self.sharing.each(weighted.answer_bundle, place, len(one.receivers))
            found[int(one.step.depths[one.first])].append(answer)
        return found

    # -- a tick -----------------------------------------------------------------------------------------------

    def _tick(self, first: Sequence[Instruction], measured: Sequence[Instruction]) -> list[Segment]:
        """Return a tick in which nothing is read: steps act, errors are summed and move, norms are taken where wanted.

        ``first`` goes before all, ``measured`` between acting and moving.
        """
        steps = [step for step in self._acting() if self.moving or not self._flows(step)]
        apart = self.answered or self.kept or self.remembered
        if self.layout.flowing and not apart and self._heavy():
            compiled = self.sharing.segment(first, self._near(steps, measuring=bool(measured)))
        else:
            acting = [*(self._step(step) for step in steps), *self.remembered]
            compiled = self.sharing.segment(first, acting, [*self.answered, *self.kept, *measured], self._moving())
        return [*self._calls(), *compiled]

    def _moving(self) -> list[Instruction]:
        """Return what moves all free vertices, and sets the values that arrive late at the next tick."""
        each = self.sharing.each
        flowing = [each(flow.flow, self.flow, self.receivers)] if self.layout.flowing else self._groupwise(groups.move)
        return [*flowing, *(each(groups.recall_next, place, count) for place, count in self.layout.recalls)]

    def _answering(self) -> list[Instruction]:
        """Return what sends errors back for whole populations and bundles, once all of them have theirs."""
        each, layout = self.sharing.each, self.layout
        found = [
            each(population.answer, layout.steps[key], loads=projection.loads(projection.backward))
            for key, projection in layout.projections.items()
            if projection.step.sends
        ]
        return found + [each(weighted.answer_bundle, place, len(one.receivers)) for place, one in layout.answering]

    def _arranging(self) -> list[Instruction]:
        threads = self.sharing.threads
        packed = [
            self.sharing.between(dense.pack_weight, place, np.linspace(0, panels, threads + 1).astype(np.int64))
            for place, panels in self.layout.packing
        ]
        return packed + [
            self.sharing.between(kernel, self.layout.steps[key], shares(one.loads(blocks), threads))
            for key, one in self.layout.projections.items()
            for kernel, blocks in (
                (population.arrange_forward, one.forward),
                (population.arrange_backward, one.backward),
            )
        ]

    # -- near memory ------------------------------------------------------------------------------------------

    def _heavy(self) -> bool:
        """Return whether a vertex is so much work that it may have instructions of its own."""
        shapes = self.program.groups.items()
        numbers = sum(group.active * prod(shape) for shape, group in shapes) * self.layout.batch
        return numbers >= HEAVY * self.sharing.threads * len(self.program.graph.active)

    def _near(self, steps: Sequence[Step], *, measuring: bool) -> list[Instruction]:
        """Return a tick in which a vertex moves as soon as all who need it as it is have acted: it is still near.

        Vertices move in the order of the graph, the last one when all have acted.
        """
        graph, names = self.program.graph, self.program.graph.active
        acting = {name: (step, row) for step in steps for row, name in enumerate(step.names)}
        moving = [name for name in names if graph.role(name) == "free"]
        last = self._last_users(names)
        lines: list[Instruction] = []
        moved = 0
        for number, name in enumerate(names):
            if name in acting:
                step, row = acting[name]
                lines.append(self._step(step, slice(row, row + 1)))
            while moved < len(moving) - 1 and last[moving[moved]] <= number:
                lines += self._move_one(moving, moved, measuring=measuring)
                moved += 1
        if measuring:
            each, places = self.sharing.each, self.layout.groups
            shapes = self.program.groups.items()
            lines += [each(groups.measure, places[shape], group.active, group.free) for shape, group in shapes]
        for number in range(moved, len(moving)):
            lines += self._move_one(moving, number, measuring=measuring)
        return lines

    def _last_users(self, names: Sequence[str]) -> dict[str, int]:
        """Return for each vertex which of the names is the last to need it as it is."""
        last = {name: number for number, name in enumerate(names)}
        for number, name in enumerate(names):
            for edge in self.program.graph.incoming[name]:
                last[edge.pre] = number
        return last

    def _move_one(self, moving: Sequence[str], number: int, *, measuring: bool) -> list[Instruction]:
        """Return what moves a vertex, given by its place in the order of moving."""
        lines = [self.sharing.each(flow.flow, self.flow, number + 1, number)]
        if measuring:
            shape, row = self.program.location[moving[number]]
            lines.insert(0, self.sharing.each(groups.measure, self.layout.groups[shape], row + 1, row))
        return lines

    def _flows(self, step: Step) -> bool:
        """Return whether what a step sends is never written down in a block of ticks."""
        return self.layout.flowing and flows.unwritten(self.layout, step)

    def _step(self, step: Step, rows: slice | None = None) -> Instruction:
        """Return the instruction that runs some vertices of a step; for a population their blocks count."""
        rows = rows or slice(0, len(step.names))
        kernel, place = KINDS[step.op.name].kernel, self.layout.steps[id(step)]
        one = self.layout.projections.get(id(step))
        if one is None:
            return self.sharing.each(kernel, place, rows.stop, rows.start)
        blocks = len(one.forward.bounds) - 1
        loads = one.loads(one.forward)[rows.start * blocks : rows.stop * blocks]
        return self.sharing.each(kernel, place, first=rows.start * blocks, loads=loads, whole=one.whole)


def _swept(array_step: ArrayStep, rows: slice, _parts: Parts, _mode: int) -> bool:
    """Sweep some rows of a step without a kernel."""
    return array_step.sweep(rows)


def _answered(array_step: ArrayStep, rows: slice, _parts: Parts, _mode: int) -> bool:
    """Send what some rows of a step without a kernel send back."""
    return array_step.send(rows)
