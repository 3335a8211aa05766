"""Judging by inference: some values are free, the others clamped, and what the free ones settle to is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines import open_engine
from pcsim.engines.base import Task
from pcsim.graph.after_training import after_training
from pcsim.graph.freeing import freed, prior_of
from pcsim.learn.metrics import Judge
from pcsim.rules import rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.engines.base import Engine, Read, Session
    from pcsim.graph.graph import Graph
    from pcsim.learn.feed import Arrays
    from pcsim.scenario.scenario import Scenario
    from pcsim.scenario.train_document import EvaluationEntry

Array = np.ndarray


def free_names(graph: Graph, entry: EvaluationEntry) -> list[str]:
    """Return which sources and outputs are free: those that are named, else all outputs."""
    observed = {name.removesuffix(".observed"): name for name in graph.outputs}
    return [observed.get(name, name) for name in entry.free] if entry.free else list(graph.outputs)


def check_evaluation(scenario: Scenario, entry: EvaluationEntry) -> None:
    """Raise InputError where what is to be free cannot be."""
    if entry.name == "inference":
        freed(scenario.levelled, free_names(scenario.levelled, entry), entry.precision)


class Relaxer:
    """What free vertices settle to by standard inference, after training: from the feedforward sweep on.

    A free source begins at its prior; vertices on cycles, which have no feedforward value, at zero.
    """

    MOST = 256
    """Samples that are inferred at once."""

    def __init__(self, scenario: Scenario, engine: str, samples: int, entry: EvaluationEntry) -> None:
        self.scenario, self.entry = scenario, entry
        plain = after_training(scenario.levelled)
        self.names = free_names(plain, entry)
        self.graph = freed(plain, self.names, entry.precision)
        self.sources = [name for name in self.names if name not in plain.outputs]
        self.losses = {name: scenario.losses().get(name, "squared_error") for name in self.names}
        self.judge = Judge(self.losses)
        self.rule = rule("il", **entry.settings())
        self.size = min(samples, self.MOST)
        self.start: Engine = open_engine(engine)
        self.session: Session | None = None
        self.readers: dict[str, Read] = {}

    def judged(self, inputs: Arrays, targets: Arrays, parameters: Arrays, buffers: Arrays) -> Mapping[str, Array]:
        """Return {metric: (samples,)} of at most ``size`` samples."""
        count = len(next(iter(targets.values())))
        settled = self._settled(self._given(inputs, targets, parameters, buffers, count))
        wanted = {name: inputs[name] if name in self.sources else targets[name] for name in self.names}
        return self.judge({name: array[:count] for name, array in settled.items()}, wanted)

    def _given(
        self, inputs: Arrays, targets: Arrays, parameters: Arrays, buffers: Arrays, count: int
    ) -> dict[str, Any]:
        """Return what a run begins with; missing samples repeat the first."""
        places = np.arange(self.size)
        places[count:] = 0
        held = {name: array[places] for name, array in inputs.items() if name not in self.sources}
        for name in self.sources:
            shape = (self.size, *self.graph.vertices[name].shape)
            held[prior_of(name)] = np.full(shape, self.entry.prior, self.scenario.dtype)
        clamped = {name: array[places] for name, array in targets.items() if name in self.graph.outputs}
        return {"inputs": held, "targets": clamped, "parameters": parameters, "buffers": buffers or None}

    def _settled(self, given: dict[str, Any]) -> Arrays:
        """Return {free vertex that is judged: (size, *shape)}, as the last tick has it."""
        if self.session is None:
            self.session = self.start(self._task(given))
            self.readers = {name: self.session.reader("value", [name]) for name in self.names}
        else:
            self.session.restart(**given)
        last = self._ticks - 1
        if last:
            self.session.advance(0, last, last=False)
        self.session.predict(last)
        return {name: read()[0].copy() for name, read in self.readers.items()}

    @property
    def _ticks(self) -> int:
        assert isinstance(self.rule.ticks, int)
        return self.rule.ticks

    def _task(self, given: dict[str, Any]) -> Task:
        scenario, graph = self.scenario, self.graph
        losses = {name: scenario.losses()[name] for name in graph.outputs}
        initial = {name: np.zeros((self.size, *graph.vertices[name].shape), scenario.dtype) for name in graph.cyclic}
        data = {**given, "buffers": given["buffers"] or {}}
        return Task(graph, self.rule, self._ticks, self.size, scenario.dtype, losses=losses, initial=initial, **data)
