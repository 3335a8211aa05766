"""Scripts: what a tick is to each thread, which kernel for which rows, and where all wait for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.jit import flow, moves, population, weighted, wiring
from pcsim.engines.jit.driver import RANGES
from pcsim.engines.jit.layout import KINDS
from pcsim.engines.jit.native import entry
from pcsim.engines.rows import by_depth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.engines.array import ArraySession
    from pcsim.engines.jit.layout import Layout
    from pcsim.program.program import Step


class Scripts:
    """The instructions of a program, for threads that share out the samples, or else the vertices, in step.

    Attributes
    ----------
    sweeping, preparing, acting, remembering, delivering, staying : the parts of a tick that is looked at, and the sweep
    ticking, noting : whole ticks in which no one looks; ``noting`` takes norms too
    measuring : instructions that take norms
    arranging : puts what populations have of their own into the order of their products
    """

    def __init__(self, rare: ArraySession, places: Layout, threads: int, *, by_sample: bool, flowing: bool) -> None:
        self.places, self.dtype, self.threads, self.by_sample = places, rare.task.dtype, threads, by_sample
        self.flowing = flowing
        rule, program, layout = rare.task.rule, rare.program, places
        self.measured = [layout.to_measure(shape) for shape in program.banks]
        banks = [(layout.banks[shape], bank.active) for shape, bank in program.banks.items() if bank.active]
        acting = [self._step(step) for step in program.steps if rule.moving or step.sends]
        remembering = [self._each(moves.remember, at, lines) for at, lines in layout.histories]
        recalling = [self._each(moves.recall, at, count) for at, count in layout.recalls]
        next_recalling = [self._each(moves.recall_next, at, count) for at, count in layout.recalls]
        adding = [self._each(moves.materialise, at, count) for at, count in banks if rule.moving]
        self.sweeping = self.script(*([self._step(step, rows)] for step, rows in by_depth(program.steps)))
        self.preparing = self.script([*recalling, *adding])
        self.delivering = self.script([self._each(moves.deliver, at, count) for at, count in banks])
        self.staying = self.script([self._each(moves.stay, at, count) for at, count in banks])
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
        self.acting = self.script(acting, answering)
        self.remembering = self.script(remembering, keeping)
        self.arranging = self.script(
            [
                self.share(kernel, layout.steps[id(wired.step)], wiring.shares(wired.loads(blocks), self.threads))
                for wired in layout.wired
                for kernel, blocks in (
                    (population.arrange_forth, wired.forward),
                    (population.arrange_back, wired.backward),
                )
            ]
        )
        moving = [self._each(moves.move, at, count) for at, count in banks]
        if flowing:
            count = sum(bank.free for bank in program.banks.values())
            moving = [self._each(flow.flow, flow.lay_out(places), count)]
        written = [self._step(step) for step in program.steps if rule.moving or (step.sends and not self._flows(step))]
        before = [*written, *remembering]
        answering += keeping
        after = [*moving, *next_recalling]
        self.ticking = self.script(before, answering, after)
        self.noting = self.script(before, [*answering, *self.measuring], after)

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

    def script(self, *phases: Sequence[np.ndarray]) -> np.ndarray:
        """Return instructions; where threads share vertices out, all wait for each other after each phase."""
        width = RANGES + 2 * self.threads
        wait = [] if self.by_sample else [np.zeros(width, np.int64)]
        lines = [line for phase in phases if len(phase) for line in (*phase, *wait)]
        return np.array(lines, np.int64).reshape(-1, width)
