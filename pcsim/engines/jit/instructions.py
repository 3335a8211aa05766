"""What a tick is: which kernel for which rows, in which order, and where steps without a kernel are called."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING

from pcsim.engines.array.rows import by_depth
from pcsim.engines.jit import flows
from pcsim.engines.jit.kernels import flow, groups, past, population, weighted
from pcsim.engines.jit.kernels.common import STEP
from pcsim.engines.jit.kinds import KINDS
from pcsim.engines.jit.projections import shares
from pcsim.engines.jit.segments import ArrayCall, Compiled

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    "answer": STEP,
    "answer_bundle": weighted.ANSWER,
    "arrange_forward": STEP,
    "arrange_backward": STEP,
}
"""Which kind of record each kernel works on, by its name."""

HEAVY = 512
"""Numbers of a vertex for each thread, from which on an instruction of its own costs it little."""


class Instructions:
    """The segments of a program.

    Attributes
    ----------
    sweeping, preparing, acting, remembering, delivering, staying : the sweep, and the parts of a tick that is read
    ticking, noting, comparing : whole ticks in which nothing is read; ``noting`` takes squares of errors too, and
        ``comparing`` also how far errors are from what they are compared with
    measuring : takes both
    measures : squares are taken by ``measuring``; otherwise vertices note them as they move
    arranging : puts the weights of populations into the order of their products
    """

    def __init__(self, layout: Layout, sharing: Sharing) -> None:
        self.layout, self.sharing = layout, sharing
        self.program, self.moving = layout.arrays.program, layout.moving
        each, segment = sharing.each, sharing.segment
        active = [(layout.groups[shape], group.active) for shape, group in self.program.groups.items() if group.active]
        measured = [each(groups.measure, place, count) for place, count in active]
        first = [each(groups.measure_first, place, count) for place, count in active]
        recalling = [each(groups.recall, place, count) for place, count in layout.recalls]
        adding = [each(groups.materialise, place, count) for place, count in active if self.moving]
        self.remembered = [each(groups.remember, place, lines) for place, lines in layout.histories]
        self.kept = [each(past.remember_values, place, past.PIECES) for place in layout.keeping]
        self.answered = self._answering()
        self.moves = self._moving(active)
        self.sweeping = self._sweeping()
        self.preparing = segment([*recalling, *adding])
        self.acting: list[Segment] = [
            *self._calls(),
            *segment([self._step(step) for step in self._acting()], self.answered),
        ]
        self.remembering = segment(self.remembered, self.kept)
        self.delivering = segment([each(groups.deliver, place, count) for place, count in active])
        self.staying = segment([each(groups.stay, place, count) for place, count in active])
        self.measuring = segment(measured)
        self.arranging = segment(self._arranging())
        self.measures = self.moving or not (layout.flowing and any(group.free for group in self._groups()))
        self.ticking = self._tick((), ())
        self.comparing = self._tick((), measured)
        self.noting = self.comparing if self.measures else self._tick(first, ())

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

    def _sweeping(self) -> list[Segment]:
        """Return the sweep, depth by depth, cut where a step has no kernel."""
        segments: list[Segment] = []
        phases: list[list[Instruction]] = []
        for step, rows in by_depth(self.program.steps):
            if array_step := self.layout.array_steps.get(id(step)):
                call = ArrayCall(step.names[0], partial(_swept, array_step, rows))
                segments += [*self.sharing.segment(*phases), call]
                phases = []
            else:
                phases.append([self._step(step, rows)])
        return [*segments, *self.sharing.segment(*phases)]

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
            compiled = self.sharing.segment(first, acting, [*self.answered, *self.kept, *measured], self.moves)
        return [*self._calls(), *compiled]

    def _moving(self, active: Sequence[tuple[int, int]]) -> list[Instruction]:
        """Return what moves all free vertices, and sets the values that arrive late at the next tick."""
        each, layout = self.sharing.each, self.layout
        if layout.flowing:
            self.flow, count = flows.lay_out(layout)
            moving = [each(flow.flow, self.flow, count)]
        else:
            moving = [each(groups.move, place, count) for place, count in active]
        return [*moving, *(each(groups.recall_next, place, count) for place, count in layout.recalls)]

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
        return [
            self.sharing.between(kernel, self.layout.steps[key], shares(one.loads(blocks), self.sharing.threads))
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
