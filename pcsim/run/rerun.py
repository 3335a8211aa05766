"""A run computed again from its task, to read what its trace does not hold."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.errors import InputError, RunError, wrong
from pcsim.graph.crossings import crossings
from pcsim.run.provenance import scenario_of
from pcsim.run.task import started_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.engines import Engine, Task
    from pcsim.engines.base import Read
    from pcsim.engines.state import State
    from pcsim.run.result import Run

Progress = Callable[[int, int], None]

Key = tuple[str, str]
"""A quantity (``value``, ``prediction``, ``error``, ``value message``, ``error message``) and the vertex or edge."""

MOST_NUMBERS = 2**20
"""A graph of at most so many numbers is read as a whole at each tick that is asked for."""

BLOCKS = 50
"""Into so many blocks the way to a tick is cut."""

MOST_TICKS = 8
"""So many ticks are kept as they were read."""


def task_again(run: Run) -> Task:
    """Return the task of a run: its own, or, from a folder, that of its scenario.

    Raises
    ------
    InputError
        If the scenario, its files or its parameters are no longer what the run began with.
    """
    if run.outcome is not None and run.outcome.task is not None:
        return run.outcome.task
    manifest = run.manifest
    scenario = scenario_of(run)
    if scenario.digest != manifest["digest"] or scenario.parameters_digest != manifest["parameters_digest"]:
        kept = {} if scenario.rule.fires.applies else run.parameters
        scenario = scenario.with_parameters({**kept, **run.given_buffers})
        if scenario.parameters_digest != manifest["parameters_digest"]:
            raise wrong("parameters", "those that the run began with are kept nowhere")
        if scenario.data_digest != manifest.get("data_digest", scenario.data_digest):
            raise wrong("inputs", "the data that the run was given are kept nowhere")
    return scenario.task()


def engine_again(run: Run) -> Engine:
    """Return what starts a session of a run's engine."""
    return started_by(run.manifest["engine"])


@dataclass
class Rerun:
    """A session that goes to the ticks that are asked for.

    Attributes
    ----------
    tick : the tick that can be read; -1 before the first
    moved : whether the values have moved on since, so that the state before the next tick can be read
    kept : what was read, by tick
    progress : called with (ticks done, ticks to do) on the way to a tick
    """

    task: Task
    start: Engine
    progress: Progress | None = None
    tick: int = -1
    moved: bool = True
    kept: OrderedDict[int, dict[Key, np.ndarray]] = field(default_factory=OrderedDict)
    readers: dict[tuple[Key, ...], Read] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task = replace(self.task, keep_values=True, exact_dynamics=True)
        self.session = self.start(self.task)

    def read(self, tick: int, wanted: Iterable[Key]) -> Mapping[Key, np.ndarray]:
        """Return {key: (batch, *shape)} at a tick.

        Raises RunError where a value becomes NaN or infinite before.
        """
        found = self.kept.setdefault(tick, {})
        missing = [key for key in wanted if key not in found]
        if missing:
            self._go(tick)
            for keys in self._groups(self._everything() or missing):
                found.update(zip(keys, np.array(self._reader(keys)()), strict=True))
        self.kept.move_to_end(tick)
        while len(self.kept) > MOST_TICKS:
            self.kept.popitem(last=False)
        return found

    def frozen(self, tick: int) -> Mapping[str, int]:
        """Return the vertices that have become NaN or infinite up to a tick, after they had fired, and when."""
        self._go(tick)
        return {name: at for name, at in self.session.frozen().items() if at <= tick}

    def state_after(self, tick: int) -> State:
        """Return the state between a tick and the next: values, and the messages under way."""
        self._go(tick)
        self._move()
        return self.session.snapshot()

    def _go(self, tick: int) -> None:
        if tick == self.tick and not self.moved:
            return
        try:
            if tick <= self.tick:
                self.session.restart()
                self.tick, self.moved = -1, True
            self._move()
            self._advance(self.tick + 1, tick)
            self.session.predict(tick)
            self.session.send(tick)
            self.session.deliver(tick)
        except RunError:
            self.tick, self.moved = self.task.ticks + 1, True  # begin again, whatever is asked for next
            raise
        self.tick, self.moved = tick, False

    def _advance(self, first: int, end: int) -> None:
        """Run ticks ``first`` to ``end - 1`` in a few blocks, so that one can see how far it is."""
        block = max(1, -(-(end - first) // BLOCKS))
        for start in range(first, end, block):
            self.session.advance(start, min(start + block, end), last=False)
            if self.progress is not None:
                self.progress(min(start + block, end), end)

    def _move(self) -> None:
        if not self.moved:
            self.session.learn(self.tick, last=False)
            self.session.move()
            self.moved = True

    def _everything(self) -> list[Key]:
        """Return all that can be read of a small graph; nothing of a large one."""
        graph = self.task.graph
        names = [name for name, vertex in graph.vertices.items() if vertex.op.role != "parameter"]
        edges = [edge for edge in graph.edges if graph.vertices[edge.pre].op.role != "parameter"]
        sizes = [prod(graph.vertices[name].shape) for name in (*names, *(edge.pre for edge in edges))]
        if 3 * self.task.batch * sum(sizes) > MOST_NUMBERS:
            return []
        quantities = ("prediction", "error", *(["multiplier"] if self.task.rule.keeps_multipliers else []))
        return [
            *(("value", name) for name in names),
            *((quantity, name) for quantity in quantities for name in graph.active),
            *(("value message", edge.name) for edge in edges),
            *(("error message", edge.name) for edge in edges if graph.carries_errors(edge)),
            *((f"{kind} stamp", name) for name, kind in crossings(graph)),
        ]

    def _groups(self, keys: Iterable[Key]) -> list[tuple[Key, ...]]:
        """Return keys by what a session reads at once: one quantity of one shape, sources apart."""
        vertices = self.task.graph.vertices
        groups: dict[tuple[object, ...], list[Key]] = defaultdict(list)
        for quantity, name in keys:
            vertex = vertices[self.task.graph.edge(name).pre if quantity.endswith(("message", "stamp")) else name]
            source = vertex.op.role == "source" and quantity == "value"
            groups[quantity, vertex.shape, source].append((quantity, name))
        return [tuple(group) for group in groups.values()]

    def _reader(self, keys: tuple[Key, ...]) -> Read:
        if keys not in self.readers:
            self.readers[keys] = self.session.reader(keys[0][0], [name for _, name in keys])
        return self.readers[keys]


def rerun_of(run: Run, progress: Progress | None = None) -> Rerun:
    """Return a run computed again from its first tick; raises InputError where that cannot be, with the reason."""
    try:
        return Rerun(task_again(run), engine_again(run), progress)
    except InputError as error:
        reasons = "; ".join(problem.message for problem in error.problems[:3])
        raise wrong("run", f"it cannot be computed again: {reasons}") from None
