"""Scripts: what a tick is to each thread, which kernel for which rows, and where all wait for each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array.rows import by_depth
from pcsim.engines.jit import flow, moves, norms, population, weighted, wiring
from pcsim.engines.jit.driver import RANGES
from pcsim.engines.jit.layout import KINDS
from pcsim.engines.jit.native import entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.engines.array.session import ArraySession
    from pcsim.engines.jit.array_steps import ArrayStep, Flags
    from pcsim.engines.jit.layout import Layout
    from pcsim.program.program import Step

ArrayCall = Callable[["Flags", int], bool]
"""What a step without a kernel does, given flags and a mode; returns whether all numbers are finite."""

Segment = np.ndarray | ArrayCall
"""A part of a tick: instructions (instructions, RANGES + 2 threads), or one array call over the whole batch."""

HEAVY = 512
"""Numbers of a vertex for each thread, from which on an instruction of its own costs it little."""


class Scripts:
    """The instructions of a program, for threads that share out the samples, or else the vertices, in step.

    Attributes
    ----------
    sweeping, preparing, acting, remembering, delivering, staying : the parts of a tick that is looked at, and the sweep
    ticking, noting : whole ticks in which no one looks; ``noting`` takes norms too
    measuring : takes norms
    measures : norms are taken by ``measuring``; otherwise vertices note them as they move
    arranging : puts what populations have of their own into the order of their products
    """

    def __init__(self, rare: ArraySession, places: Layout, threads: int, *, by_sample: bool, flowing: bool) -> None:
        self.places, self.dtype, self.threads, self.by_sample = places, rare.task.dtype, threads, by_sample
        self.flowing = flowing
        self.program, self.moving = rare.program, rare.task.rule.moving
        banks = [(places.banks[shape], bank.active) for shape, bank in self.program.groups.items() if bank.active]
        self.sweeping = self._sweeping()
        self.delivering = self.script([self._each(moves.deliver, at, count) for at, count in banks])
        self.staying = self.script([self._each(moves.stay, at, count) for at, count in banks])
        measured = [self._each(norms.measure, at, count) for at, count in banks]
        self.measuring = self.script(measured)
        self.arranging = self.script(self._arranging())
        remembering = [self._each(moves.remember, at, lines) for at, lines in places.histories]
        keeping = [self._each(population.remember_values, at, population.PIECES) for at in places.keeping]
        recalling, next_recalling = (
            [self._each(kernel, at, count) for at, count in places.recalls]
            for kernel in (moves.recall, moves.recall_next)
        )
        adding = [self._each(moves.materialise, at, count) for at, count in banks if self.moving]
        answering = self._answering()
        self.preparing = self.script([*recalling, *adding])
        self.acting: list[Segment] = [
            *self._calls(),
            *self.script([self._step(step) for step in self._acting()], answering),
        ]
        self.remembering = self.script(remembering, keeping)
        free = sum(bank.free for bank in self.program.groups.values())
        if flowing:
            self.flow = flow.lay_out(places)
            moving = [self._each(flow.flow, self.flow, free)]
        else:
            moving = [self._each(moves.move, at, count) for at, count in banks]
        acts = [step for step in self._acting() if self.moving or not self._flows(step)]
        before = [*(self._step(step) for step in acts), *remembering]
        between, after = [*answering, *keeping], [*moving, *next_recalling]
        woven = flowing and not (between or remembering) and self._heavy()

        def tick(*firsts: np.ndarray, measuring: bool) -> list[Segment]:
            if woven:
                compiled = self.script(firsts, self._woven(acts, measuring=measuring))
            else:
                compiled = self.script(firsts, before, [*between, *(measured if measuring else ())], after)
            return [*self._calls(), *compiled]

        self.ticking = self.noting = tick(measuring=False)
        self.measures = self.moving or not (flowing and free)
        if self.measures:
            self.noting = tick(measuring=True)
        else:
            self.noting = tick(*(self._each(norms.measure_first, at, count) for at, count in banks), measuring=False)

    def _acting(self) -> list[Step]:
        """Return the steps that predict or send in a tick."""
        steps = [step for step in self.program.steps if self.moving or step.sends]
        return [step for step in steps if id(step) not in self.places.array_steps]

    def _calls(self) -> list[ArrayCall]:
        """Return what steps without a kernel do in a tick: they act first, on what the tick before has left."""
        found = self.places.array_steps.values()
        return [each.act for each in found if self.moving or each.step.sends]

    def _sweeping(self) -> list[Segment]:
        """Return the sweep, depth by depth, cut where a step has no kernel."""
        segments: list[Segment] = []
        phases: list[list[np.ndarray]] = []
        for step, rows in by_depth(self.program.steps):
            if array_step := self.places.array_steps.get(id(step)):
                segments += [*self.script(*phases), partial(swept, array_step, rows)]
                phases = []
            else:
                phases.append([self._step(step, rows)])
        return [*segments, *self.script(*phases)]

    def _answering(self) -> list[np.ndarray]:
        """Return what sends errors back for whole populations and bundles, once all of them have theirs."""
        wired = [
            self._each(population.answer, self.places.steps[id(wired.step)], loads=wired.loads(wired.backward))
            for wired in self.places.wired
            if wired.step.sends
        ]
        return wired + [self._each(weighted.answer, at, count) for at, count in self.places.answering]

    def _arranging(self) -> list[np.ndarray]:
        return [
            self.share(kernel, self.places.steps[id(wired.step)], wiring.shares(wired.loads(blocks), self.threads))
            for wired in self.places.wired
            for kernel, blocks in (
                (population.arrange_forth, wired.forward),
                (population.arrange_back, wired.backward),
            )
        ]

    def _heavy(self) -> bool:
        """Return whether a vertex is so much work that it may have instructions of its own."""
        numbers = sum(bank.active * prod(shape) for shape, bank in self.program.groups.items()) * self.places.batch
        return numbers >= HEAVY * self.threads * len(self.program.graph.active)

    def _woven(self, acts: Sequence[Step], *, measuring: bool) -> list[np.ndarray]:
        """Return a tick in which a vertex moves as soon as all who need it as it is have acted: it is still near.

        Vertices move in the order of the graph, the last one when all have acted.
        """
        graph, names = self.program.graph, self.program.graph.active
        acting = {name: (step, row) for step in acts for row, name in enumerate(step.names)}
        moving = [name for name in names if graph.role(name) == "free"]
        last = {name: number for number, name in enumerate(names)}
        for number, name in enumerate(names):
            for edge in graph.incoming[name]:
                last[edge.pre] = number
        lines: list[np.ndarray] = []
        moved = 0
        for number, name in enumerate(names):
            if name in acting:
                step, row = acting[name]
                lines.append(self._step(step, slice(row, row + 1)))
            while moved < len(moving) - 1 and last[moving[moved]] <= number:
                lines += self._move_one(moving, moved, measuring=measuring)
                moved += 1
        if measuring:
            banks = self.program.groups.items()
            lines += [self._each(norms.measure, self.places.banks[shape], b.active, b.free) for shape, b in banks]
        for number in range(moved, len(moving)):
            lines += self._move_one(moving, number, measuring=measuring)
        return lines

    def _move_one(self, moving: Sequence[str], number: int, *, measuring: bool) -> list[np.ndarray]:
        """Return what moves a vertex, given by its place in the order of moving."""
        lines = [self._each(flow.flow, self.flow, number + 1, number)]
        if measuring:
            shape, row = self.program.location[moving[number]]
            lines.insert(0, self._each(norms.measure, self.places.banks[shape], row + 1, row))
        return lines

    def _flows(self, step: Step) -> bool:
        """Return whether what a step sends is never written down in a block of ticks."""
        return self.flowing and flow.unwritten(self.places, step)

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
        return self.share(kernel, at, np.array([[first, last]] * self.threads) if self.by_sample else ends)

    def share(self, kernel: Any, at: int, ends: np.ndarray) -> np.ndarray:
        """Return the instruction that plays a kernel for these rows (threads, 2), or between these bounds."""
        ranges = ends if ends.ndim == 2 else np.stack([ends[:-1], ends[1:]], axis=1)
        return np.array([entry(kernel, self.dtype), at, *ranges.ravel()], np.int64)

    def script(self, *phases: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return instructions as one segment, none if there are none.

        Where threads share vertices out, all wait for each other after each phase.
        """
        width = RANGES + 2 * self.threads
        wait = [] if self.by_sample else [np.zeros(width, np.int64)]
        lines = [line for phase in phases if len(phase) for line in (*phase, *wait)]
        return [np.array(lines, np.int64).reshape(-1, width)] if lines else []


def swept(array_step: ArrayStep, rows: slice, _flags: Flags, _mode: int) -> bool:
    """Sweep some rows of a step without a kernel."""
    return array_step.sweep(rows)
