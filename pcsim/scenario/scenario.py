"""A scenario: a checked experiment, ready to be levelled and run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pcsim.engines.base import Task
from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.graph.graph import Graph
from pcsim.graph.initialise import initialise, read_npz, stream
from pcsim.graph.levels import level
from pcsim.ops import LOSSES
from pcsim.program.lower import ticks_of
from pcsim.rules import Rule
from pcsim.scenario.data import Wanted, entry_of, load
from pcsim.scenario.models import InitialEntry, ScenarioDocument

Array = np.ndarray


@dataclass(frozen=True)
class Scenario:
    """What to simulate. Make one with ``pcsim.load``.

    Attributes
    ----------
    document : the validated document, overrides applied
    graph : the graph as written, before levelling
    rule : the row of ``RULES`` with the scenario's settings
    folder : files named in the scenario are sought here
    plain : the whole scenario as plain data, the graph written out in place
    """

    document: ScenarioDocument
    graph: Graph
    rule: Rule
    folder: Path
    plain: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Scenario({self.document.title!r}, rule {self.rule.name}, {self.graph!r})"

    @property
    def digest(self) -> str:
        """A fingerprint of everything that decides the result."""
        return sha256(json.dumps(self.plain, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @cached_property
    def levelled(self) -> Graph:
        """The graph that is run: levelled as the scenario asks and the rule brings."""
        graph = level(self.graph, self.document.level)
        return level(graph, "delay") if self.rule.levelled else graph

    @property
    def ticks(self) -> int:
        """The horizon: how many ticks a run takes at most."""
        return ticks_of(self.levelled, self.rule)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The number format."""
        return np.dtype(self.document.dtype)

    def parameters(self) -> dict[str, Array]:
        """Return {parameter: (*shape)}, the values a run starts from."""
        return initialise(self.graph, self.document.seed, self.dtype)

    def losses(self) -> dict[str, str]:
        """Return {output: loss}; raises InputError for an unknown loss or output."""
        given = self.document.loss
        default = given if isinstance(given, str) else "squared_error"
        losses = dict.fromkeys(self.levelled.outputs, default)
        if not isinstance(given, str):
            losses |= {self._output(name, ("loss", name)): loss for name, loss in given.items()}
        for name, source in self.document.targets.items():
            if isinstance(source, dict) and isinstance(source.get("loss"), str):
                losses[self._output(name, ("targets", name))] = source["loss"]
        for name, loss in losses.items():
            if loss not in LOSSES:
                raise wrong("loss", f"unknown loss {loss!r}" + nearest(loss, LOSSES, "pcsim list losses"))
            if loss == "cross_entropy" and not self.levelled.vertices[name].shape:
                raise wrong("loss", f"cross_entropy needs classes along an axis, but output {name!r} is a scalar")
        return losses

    def _output(self, name: str, path: tuple[str, ...]) -> str:
        """Return the output that a document's name means: outputs that feed others are observed."""
        outputs = self.levelled.outputs
        if name in outputs:
            return name
        if f"{name}.observed" in outputs:
            return f"{name}.observed"
        raise wrong(path, f"{name!r} is not an output" + nearest(name, (o.removesuffix(".observed") for o in outputs)))

    def inputs(self) -> dict[str, Array]:
        """Return {source: (batch, *shape)}; raises InputError where data are missing or do not fit."""
        sources = [name for name, vertex in self.graph.vertices.items() if vertex.op.role == "source"]
        given = dict(self.document.inputs)
        for name in sources:
            if self.graph.vertices[name].op.name == "constant":
                given.setdefault(name, self.graph.vertices[name].call["value"])
        unknown = [
            Problem(("inputs", name), f"there is no input vertex {name!r}" + nearest(name, sources))
            for name in given
            if name not in sources
        ]
        missing = [
            Problem(("inputs",), f"input {name!r} has no data; add {name}: ... under 'inputs'")
            for name in sources
            if name not in given
        ]
        return self._load("inputs", {name: given[name] for name in sources if name in given}, [*unknown, *missing])

    def targets(self) -> dict[str, Array]:
        """Return {output: (batch, *shape)}; raises InputError where targets are missing or do not fit."""
        found, problems = {}, []
        for name, source in self.document.targets.items():
            try:
                found[self._output(name, ("targets", name))] = (name, source)
            except InputError as error:
                problems += error.problems
        problems += [
            Problem(("targets",), f"output {name!r} has no target; add {name.removesuffix('.observed')}: ... under 'targets'")
            for name in self.levelled.outputs
            if name not in found
        ]
        loaded = self._load("targets", dict(found.values()), problems, dict((given, out) for out, (given, _) in found.items()))
        return {out: loaded[given] for out, (given, _) in found.items()}

    def _load(
        self, section: str, sources: Mapping[str, Any], problems: list[Problem], vertices: Mapping[str, str] | None = None
    ) -> dict[str, Array]:
        loaded = {}
        for name, source in sources.items():
            vertex = self.levelled.vertices[vertices[name] if vertices else name]
            try:
                loaded[name] = load(entry_of(source), self._wanted(vertex.shape, name)).astype(self.dtype)
            except InputError as error:
                problems += error.map(lambda problem: problem.under(section, name)).problems  # noqa: B023
        if problems:
            raise InputError(problems)
        return loaded

    def _wanted(self, shape: tuple[int, ...], name: str) -> Wanted:
        seed = self.document.seed
        return Wanted(
            shape,
            self.document.batch,
            lambda kind: stream(seed, kind) if kind == "shuffle" else stream(seed, kind, name),
            self.folder,
        )

    def initial(self) -> dict[str, Array]:
        """Return {free vertex: (batch, *shape)} where the state at tick 0 is not the feedforward one."""
        wish = self.document.initial
        if wish == "feedforward":
            return {}
        return {
            name: value.astype(self.dtype)
            for name in self.levelled.active
            if self.levelled.role(name) == "free" and (value := self._initial(wish, name)) is not None
        }

    def _initial(self, wish: str | InitialEntry, name: str) -> Array | None:
        full = (self.document.batch, *self.levelled.vertices[name].shape)
        if isinstance(wish, str):
            return np.zeros(full)
        if wish.file is None:
            return stream(self.document.seed, "initial", name).normal(0.0, wish.normal or 0.0, full)
        array = read_npz(str(self.folder / wish.file), name)
        if array.shape != full:
            raise wrong(("initial", "file"), f"the state of {name!r} has shape {list(array.shape)}, expected {list(full)}")
        return array

    def task(self, *, initial: Mapping[str, Array] | None = None, keep_values: bool = False) -> Task:
        """Return everything an engine needs; raises InputError with every problem of the data."""
        parts: dict[str, Any] = {}
        problems: list[Problem] = []
        for key in ("parameters", "inputs", "targets", "losses", "initial"):
            try:
                parts[key] = getattr(self, key)()
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(problems)
        parts["initial"] = dict(initial) if initial is not None else parts["initial"]
        return Task(self.levelled, self.rule, self.ticks, self.document.batch, self.dtype, keep_values=keep_values, **parts)

    def with_rule(self, row: Rule) -> Scenario:
        """Return the scenario under another rule."""
        return replace(self, rule=row)
