"""The vectorised engine: all vertices of a kind in one array operation, over an array namespace ``xp``.

The state is the deviation from the feedforward values; the error of a vertex is ``deviation - shift``, where ``shift``
is how far its prediction has moved, and exactly zero while no input has moved, because the same operation on the same
numbers gives the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import numpy as np

from pcsim.engines.array.array_state import ArrayState
from pcsim.engines.array.correct import deliver, move, send
from pcsim.engines.array.feedforward import settle, sweep
from pcsim.engines.array.learn import learn
from pcsim.engines.array.measuring import measuring
from pcsim.engines.array.memory import HostMemory
from pcsim.engines.array.predict import predict
from pcsim.engines.array.schedule import EveryRow, Schedule, schedule
from pcsim.engines.array.snapshot import restore, snapshot
from pcsim.engines.base import begun_again, taken_up, tick_by_tick
from pcsim.engines.state import check as check_state
from pcsim.engines.updates_only import updates_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcsim.arrays import Namespace
    from pcsim.engines.array.memory import Memory
    from pcsim.engines.base import Given, Read, Session, Task
    from pcsim.engines.state import State


class ArraySession:
    """A run of a lowered program: the phases of a tick, on one state."""

    def __init__(self, task: Task, xp: Namespace, memory: Memory | None = None, note: str = "") -> None:
        """``note``: why array operations stand in for another engine."""
        self.note = note
        self.state = ArrayState(task, xp, memory or HostMemory())
        self.origin: State | None = None
        """Where the run was taken up, if not at its beginning."""
        self.schedule: Schedule = schedule(task, self.state.program)
        self._begin()

    @property
    def task(self) -> Task:
        """What is run."""
        return self.state.task

    def _begin(self) -> None:
        """Sweep forward and settle; everything that a run leaves behind has been cleared."""
        with np.errstate(all="ignore"):
            sweep(self.state)
            settle(self.state)
        slopes = [array for work in self.state.work.values() for array in work.saved]
        # an infinite slope makes no number of an error of zero, and ends the run at tick 0: every row must be there
        self.plans = self.schedule if all(map(self.state.finite, slopes)) else EveryRow(self.state.program)

    def restart(self, **given: Unpack[Given]) -> None:
        """Begin again at tick 0; what is not given stays."""
        self.state.task = begun_again(self.state.task, **given)
        if given.get("precisions"):
            self.state.take_precisions(self.state.task)
        self.state.memory.watch(closely=False)
        self.origin = None
        self._renew()

    def _renew(self) -> None:
        self.state.clear()
        self.state.fill(self.state.task)
        self._begin()

    def snapshot(self) -> State:
        """Return the state before the next tick."""
        return snapshot(self.state, self.state.xp.__name__, self.plans.sends)

    def load(self, found: State) -> None:
        """Go on from a state of this task, whichever engine it is from."""
        check_state(found, self.state.task)
        self.state.task = taken_up(self.state.task, found)
        self._renew()
        self.origin = found
        if not restore(self.state, found, self.state.xp.__name__):
            self.plans = EveryRow(self.state.program)
        if self.state.rule.fires.applies:
            self.state.gather_parameters()

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors."""
        self.state.tick, self.state.plan = tick, self.plans.at(tick)
        predict(self.state, tick)

    def send(self, _tick: int, /) -> None:
        """Compute the error messages of this tick."""
        send(self.state)

    def deliver(self, tick: int) -> None:
        """Take the error messages that are due, and sum them by receiver."""
        deliver(self.state, tick)

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""
        learn(self.state, tick, last=last)

    def move(self) -> None:
        """Move the free values to the next tick."""
        self.state.next_tick = self.state.tick + 1
        move(self.state)

    def advance(
        self, first: int, end: int, *, last: bool, squares: np.ndarray | None = None, apart: np.ndarray | None = None
    ) -> None:
        """Advance some ticks, and note norms of errors, and of how far they are from references, where wanted."""
        xp = self.state.xp
        here = [kept if kept is None or xp is np else xp.asarray(kept) for kept in (squares, apart)]
        measure = measuring(self.state, first, *here)
        try:
            self.state.memory.put_off()
            tick_by_tick(self, first, end, last=last, measure=measure)
            if not self.state.memory.looked_well():
                self._replay(first, end, last=last, measure=measure)
        finally:
            for kept, noted in zip((squares, apart), here, strict=True):
                if kept is not None and noted is not kept:
                    kept[...] = self.state.host(noted)

    def _replay(self, first: int, end: int, *, last: bool, measure: Callable[[int], None] | None) -> None:
        """Run again, looking at every tick: name what was not finite, or freeze what may be frozen."""
        if self.origin is None:
            self.restart()
        else:
            self.load(self.origin)
        self.state.memory.watch(closely=True)
        tick_by_tick(self, self.state.next_tick, first, last=False)
        tick_by_tick(self, first, end, last=last, measure=measure)

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex: array operations, all of them."""
        how = f"{self.state.xp.__name__}: {self.note}" if self.note else self.state.xp.__name__
        return dict.fromkeys(self.state.task.graph.active, how)

    def compare_with(self, references: Mapping[str, np.ndarray] | None) -> None:
        """Say what errors are compared with."""
        self.state.compare_with(references)

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by shape."""
        return self.state.layout()

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices, or of edges for messages."""
        return self.state.reader(quantity, names)

    def updates(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return what each parameter has learnt."""
        return self.state.updates(copy=copy)

    def parameters(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self.state.parameters(copy=copy)

    def buffers(self) -> dict[str, np.ndarray]:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        return self.state.buffers()

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex fired."""
        return self.state.fired()

    def frozen(self) -> dict[str, int]:
        """Return the vertices that were frozen after they had fired, and the tick."""
        return dict(self.state.frozen_at)


def start(task: Task) -> Session:
    """Start a run on NumPy."""
    return updates_only(task, lambda wanted: ArraySession(wanted, np))
