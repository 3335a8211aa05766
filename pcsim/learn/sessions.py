"""Sessions of training: one for each size of batch, begun again with every batch; and one that only sweeps forward."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines import best_engine, open_engine
from pcsim.engines.base import Task
from pcsim.graph.after_training import after_training
from pcsim.graph.precisions import with_precisions
from pcsim.rules import rule
from pcsim.run.task import check_engine, engine_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.engines.base import Engine, Read, Session
    from pcsim.learn.feed import Arrays
    from pcsim.learn.metrics import Judge
    from pcsim.rules import Rule
    from pcsim.scenario.scenario import Scenario

Array = np.ndarray


def engine_for(scenario: Scenario, engine: str | None, steps: int) -> str:
    """Return which engine trains: ``auto`` counts the ticks of all steps."""
    name = engine or scenario.document.engine
    if name != "auto":
        if scenario.document.solve == "simulate":
            check_engine(scenario, name)
        return name
    return best_engine(scenario.levelled, scenario.document.batch, scenario.ticks * steps, scenario.rule)


@dataclass
class Batch:
    """One batch on a session: what it predicts before the first tick, and what it learns."""

    session: Session
    readers: Mapping[str, Read]
    targets: Arrays
    ticks: int

    def predictions(self) -> Arrays:
        """Return {output: (batch, *shape)}: what the feedforward sweep predicts; before ``learn``."""
        return {name: read()[0].copy() for name, read in self.readers.items()}

    def ended(self) -> Arrays:
        """Return {free vertex: (batch, *shape)}: the values of the last tick; after ``learn``."""
        graph = self.session.task.graph
        free = (name for name in graph.active if graph.role(name) == "free")
        return {name: self.session.reader("value", [name])()[0].copy() for name in free}

    def errors(self, names: Iterable[str]) -> Arrays:
        """Return {vertex: (batch, *shape)} as of the last tick that was run; after ``learn``."""
        return {name: np.array(self.session.reader("error", [name])()[0]) for name in names}

    def learn(self) -> dict[str, Array]:
        """Run all ticks; return {parameter: (*shape)}, summed over the batch, until the next one begins."""
        self.session.advance(0, self.ticks, last=True)
        return self.session.updates(copy=False)


@dataclass
class Sessions:
    """Sessions of one scenario, by the size of the batch."""

    scenario: Scenario
    engine: str
    known: dict[int, tuple[Session, Mapping[str, Read]]] = field(default_factory=dict)
    step_size: float | None = None
    """In place of the rule's."""
    precisions: Arrays = field(default_factory=dict)
    """{vertex: () or (*shape)} of those that are learnt, as the next batch begins with them."""

    def use(self, step_size: float) -> None:
        """Run all batches from now on with another step size: their sessions are made anew."""
        self.step_size = step_size
        self.known.clear()

    @property
    def rule(self) -> Rule:
        """The rule, with the step size of now."""
        rule = self.scenario.rule
        return rule if self.step_size is None else replace(rule, step_size=self.step_size)

    def begin(
        self, inputs: Arrays, targets: Arrays, number: int, parameters: Arrays, buffers: Arrays, carried: Arrays
    ) -> Batch:
        """Begin a batch; ``number`` names what its ops draw. Raises RunError where a value is NaN or infinite.

        ``carried`` are the values at which the batch before has ended, where values begin there.
        """
        size = len(next(iter(targets.values())))
        again = self.initial(size, carried) if self.scenario.document.start.needs_run else None
        if size in self.known:
            session, readers = self.known[size]
            session.restart(
                inputs=inputs, targets=targets, parameters=parameters, buffers=buffers or None, initial=again,
                batch_number=number, precisions=self.precisions,
            )  # fmt: skip
        else:
            task = self.task(size, inputs, targets, number, parameters, buffers, carried)
            session = self._start(task)
            readers = {name: session.reader("prediction", [name]) for name in targets}
            self.known[size] = session, readers
        return Batch(session, readers, targets, self.scenario.ticks)

    def _start(self, task: Task) -> Session:
        by_engine = self.scenario.document.solve == "simulate" and not self.scenario.rule.sweeps
        return engine_of(self.scenario, self.engine if by_engine else None)[1](task)

    def task(
        self, size: int, inputs: Arrays, targets: Arrays, number: int, parameters: Arrays, buffers: Arrays,
        carried: Arrays,
    ) -> Task:  # fmt: skip
        """Return the task of a batch."""
        scenario, initial = self.scenario, self.initial(size, carried)
        graph = with_precisions(scenario.levelled, self.precisions) if self.precisions else scenario.levelled
        return Task(
            graph, self.rule, scenario.ticks, size, scenario.dtype, parameters, inputs, targets,
            scenario.losses(), initial, exact_dynamics=scenario.document.literal, seed=scenario.document.seed,
            batch_number=number, buffers=buffers,
        )  # fmt: skip

    def initial(self, size: int, carried: Arrays) -> Arrays:
        """Return {free vertex: (batch, *shape)}, where values do not begin in a feedforward sweep.

        What a batch of another size has ended at is not carried over.
        """
        start = self.scenario.document.start
        if start.acyclic:
            return {}
        fits = start.needs_run and carried and all(len(array) == size for array in carried.values())
        return carried if fits else self.scenario.sized(size).initial()


class Sweeper:
    """Predictions by one feedforward sweep, of the graph as it is once training is over."""

    MOST = 256
    """Samples that are swept at once."""

    def __init__(self, scenario: Scenario, engine: str, samples: int, judge: Judge) -> None:
        self.scenario, self.graph, self.judge = scenario, after_training(scenario.levelled), judge
        self.size = min(samples, self.MOST)
        self.start: Engine = open_engine(engine)
        self.session: Session | None = None
        self.readers: dict[str, Read] = {}

    def judged(self, inputs: Arrays, targets: Arrays, parameters: Arrays, buffers: Arrays) -> Mapping[str, Array]:
        """Return {metric: (samples,)} of at most ``size`` samples."""
        return self.judge(self.predictions(inputs, targets, parameters, buffers), targets)

    def predictions(self, inputs: Arrays, targets: Arrays, parameters: Arrays, buffers: Arrays) -> Arrays:
        """Return {output: (samples, *shape)} of at most ``size`` samples; missing ones repeat the first."""
        count = len(next(iter(targets.values())))
        places = np.arange(self.size)
        places[count:] = 0
        given: dict[str, Any] = {
            "inputs": {name: array[places] for name, array in inputs.items()},
            "targets": {name: array[places] for name, array in targets.items()},
            "parameters": parameters,
            "buffers": buffers or None,
        }
        if self.session is None:
            self.session = self.start(self._task(given))
            self.readers = {name: self.session.reader("prediction", [name]) for name in targets}
        else:
            self.session.restart(**given)
        return {name: read()[0][:count].copy() for name, read in self.readers.items()}

    def _task(self, given: dict[str, Any]) -> Task:
        scenario, fixed = self.scenario, rule("fpa", step_size=1.0, ticks=1)
        data = {**given, "buffers": given["buffers"] or {}}
        return Task(self.graph, fixed, 1, self.size, scenario.dtype, losses=scenario.losses(), **data)
