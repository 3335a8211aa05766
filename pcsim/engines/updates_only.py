"""Runs that leave out what can reach no update: equal contributions for less work, where nothing is read on the way.

Where each parameter learns once, behind the front of the first errors, on a levelled graph, from the feedforward
state, no input of a vertex has moved when its error arrives, and nothing that is learnt depends on what moves behind
the front. So fixed predictions give the same updates, bit for bit; at step size 1 each vertex then changes at the tick
of its level alone, and the whole run is one sweep forward and one back.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from pcsim.engines.base import Descends, data_of, may_freeze, refuse_precisions, with_changes
from pcsim.errors import RunError, wrong
from pcsim.graph.levels import uneven_edges, vertex_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from pcsim.engines.base import Engine, Given, Read, Session, Task
    from pcsim.engines.state import State


def updates_task(task: Task) -> Task:
    """Return the task with fixed predictions where that gives the same updates, else the task itself."""
    if task.exact_dynamics or not may_freeze(task):
        return task
    return replace(task, rule=replace(task.rule, moving=False))


def updates_only(task: Task, start: Engine, start_reduced: Engine | None = None) -> Session:
    """Start a session that, for a whole run in one call, does no more than its updates need.

    ``start_reduced`` starts what runs with fixed predictions as a whole, in one call, and may do nothing else; it
    raises RunError where some number becomes NaN or infinite.
    """
    if updates_task(task) is task and not (start_reduced is not None and sweeps_alone(task)):
        return start(task)
    return UpdatesOnlySession(task, start, start_reduced or start)


def sweeps_alone(task: Task) -> bool:
    """Return whether predictions are fixed and learn once, level by level, and nothing but updates is wanted."""
    fires = task.rule.fires
    once = fires.at_front and not fires.waits and not task.rule.moving
    plain = not uneven_edges(task.graph) and not task.graph.has_channels
    return once and not task.exact_dynamics and plain


class UpdatesOnlySession:
    """A session that computes updates alone for a whole run in one call; anything else is simulated in full.

    A vertex whose error is exactly zero on arrival fires later, when its inputs have moved (``fa-zil``): such a run is
    then simulated in full, from its first tick.
    """

    def __init__(self, task: Task, start: Engine, start_reduced: Engine) -> None:
        self.rule, self.start = task.rule, start
        self.reduced = start_reduced(updates_task(task))
        self.complete: Session | None = None
        self.references: Mapping[str, np.ndarray] | None = None
        self.session = self.reduced
        self.done = False
        """Whether the whole run is over, without what its updates do not need."""
        self.contributors = contributors(task)

    @property
    def task(self) -> Task:
        """What is run."""
        return with_changes(self.reduced.task, {"rule": self.rule})

    def _follow_all(self) -> Session:
        """Return the session that simulates every actor; from now on it is the one that is read."""
        self.done = False
        if self.session is self.reduced:
            if self.complete is None:
                self.complete = self.start(self.task)
            else:
                self.complete.restart(**data_of(self.task))
            self.session = self.complete
            self.session.compare_with(self.references)
        return self.session

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors."""
        self._follow_all().predict(tick)

    def send(self, tick: int) -> None:
        """Send errors and sum those due."""
        self.session.send(tick)

    def deliver(self, tick: int) -> None:
        """Take the error messages due, and sum them by receiver."""
        self.session.deliver(tick)

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""
        self.session.learn(tick, last=last)

    def move(self) -> None:
        """Move the free values to the next tick."""
        self.session.move()

    def advance(
        self, first: int, end: int, *, last: bool, squares: np.ndarray | None = None, apart: np.ndarray | None = None
    ) -> None:
        """Advance some ticks; a whole run without what its updates do not need."""
        whole = (first, end, last) == (0, self.reduced.task.ticks, True) and self.session is self.reduced
        if whole and squares is None and apart is None and self._learn_all(end):
            return
        self._follow_all().advance(first, end, last=last, squares=squares, apart=apart)

    def _learn_all(self, end: int) -> bool:
        """Do no more than the updates need; return whether they are all there.

        What becomes NaN or infinite is left to the run that simulates every actor: it names it.
        """
        with suppress(RunError):
            self.reduced.advance(0, end, last=True)
            self.done = self.contributors <= set(self.reduced.fired())
        return self.done

    def compare_with(self, references: Mapping[str, np.ndarray] | None) -> None:
        """Say what errors are compared with."""
        self.references = references
        self.session.compare_with(references)

    def restart(self, **given: Unpack[Given]) -> None:
        """Begin again at tick 0; what is not given stays."""
        refuse_precisions(given, "the rule learns in one sweep, at precision 1; use a rule such as il")
        self.reduced.restart(**given)  # refuses what does not fit
        self.session, self.done = self.reduced, False

    def snapshot(self) -> State:
        """Return the state before the next tick; raises InputError where the run was not followed to its end."""
        if self.done:
            raise wrong("state", "this run was not followed to its end, as no update depends on it; say literal: true")
        return self._follow_all().snapshot()

    def load(self, state: State) -> None:
        """Go on from a state, following every actor."""
        self._follow_all().load(state)

    def buffers(self) -> dict[str, np.ndarray]:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        return self.session.buffers()

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex."""
        return self.session.executed()

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices in groups of one shape."""
        return self.session.layout()

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads from the session that counts."""
        made: dict[int, Read] = {}

        def read() -> np.ndarray:
            session = self.session
            if id(session) not in made:
                made[id(session)] = session.reader(quantity, names)
            return made[id(session)]()

        return read

    def updates(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return what each parameter has learnt."""
        return self.session.updates(copy=copy)

    def parameters(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return each parameter's value now."""
        return self.session.parameters(copy=copy)

    def descend(
        self, formula: Callable[..., Any], moves: Sequence[Sequence[np.ndarray]], constants: Sequence[float]
    ) -> bool:
        """Move parameters along their updates in code of the session's own; return whether it could."""
        return isinstance(self.reduced, Descends) and self.reduced.descend(formula, moves, constants)

    def fired(self) -> dict[str, int]:
        """Return the tick at which the parameters that each vertex uses took its error."""
        return self.session.fired()

    def frozen(self) -> dict[str, int]:
        """Return the vertices that became NaN or infinite after they had fired and were frozen, and the tick."""
        return self.session.frozen()


def contributors(task: Task) -> set[str]:
    """Return the vertices with parameters whose first error comes within the run."""
    graph, levels = task.graph, vertex_levels(task.graph)
    return {
        name
        for name in graph.active
        if (level := levels[name]) is not None
        and level < task.ticks
        and (
            graph.vertices[name].params
            or any(graph.vertices[edge.pre].op.role == "parameter" for edge in graph.incoming[name])
        )
    }
