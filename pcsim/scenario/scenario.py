"""A scenario: a checked experiment, ready to be levelled and run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents import Positions
from pcsim.engines.array.memory import HostMemory
from pcsim.engines.base import Task
from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.graph.initialise import Generator, initialise, read_npz, rounded, stream
from pcsim.graph.levels import level
from pcsim.ops import LOSSES
from pcsim.program.lower import ticks_of
from pcsim.scenario.data import Wanted, entry_of, load
from pcsim.scenario.scenario_document import InitialEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule
    from pcsim.scenario.scenario_document import ScenarioDocument

Array = np.ndarray

MOST_NUMBERS = 10**10
"""A run whose values alone are more numbers than this is refused before any memory is taken."""


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
    positions : where everything stands in its file, for problems found later
    """

    document: ScenarioDocument
    graph: Graph
    rule: Rule
    folder: Path
    plain: Mapping[str, Any]
    positions: Positions = field(default_factory=Positions, repr=False, compare=False)
    sessions: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Sessions of runs that have ended, by engine: the next run begins there (``run/ready.py``)."""

    def __repr__(self) -> str:
        return f"Scenario({self.document.title!r}, rule {self.rule.name}, {self.graph!r})"

    def located(self, error: InputError) -> InputError:
        """Return the error with file, line and column of each problem."""
        return self.positions.located(error)

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
        return initialise(self.graph, self.document.seed, self.dtype, self.folder)

    def losses(self) -> dict[str, str]:
        """Return {output: loss}; raises InputError for an unknown loss or output."""
        given, outputs = self.document.loss, self.levelled.outputs
        losses = dict.fromkeys(outputs, "squared_error" if isinstance(given, dict) else given)
        problems = [] if isinstance(given, dict) else self._loss_problems(given, ("loss",), outputs)
        for name, path, loss in self._named_losses():
            try:
                output = self._output(name, path[:2])
                problems += self._loss_problems(loss, path, (output,))
                losses[output] = loss
            except InputError as error:
                # A target for what is no output is reported with the targets.
                problems += error.problems if path[0] == "loss" else ()
        if problems:
            raise InputError(problems)
        return losses

    def _named_losses(self) -> list[tuple[str, tuple[str, ...], str]]:
        """Return (output, path, loss) for each loss that the document gives to one output."""
        given = self.document.loss if isinstance(self.document.loss, dict) else {}
        named: list[tuple[str, tuple[str, ...], str]] = [(name, ("loss", name), loss) for name, loss in given.items()]
        for name, source in self.document.targets.items():
            if isinstance(source, dict) and isinstance(source.get("loss"), str):
                named.append((name, ("targets", name, "loss"), source["loss"]))
        return named

    def _loss_problems(self, loss: str, path: tuple[str, ...], outputs: Iterable[str]) -> list[Problem]:
        if loss not in LOSSES:
            return [Problem(path, f"unknown loss {loss!r}" + nearest(loss, LOSSES, "pcsim list losses"))]
        scalars = [name for name in outputs if not self.levelled.vertices[name].shape]
        if loss != "cross_entropy" or not scalars:
            return []
        return [Problem(path, f"cross_entropy needs classes along an axis, but output {scalars[0]!r} is a scalar")]

    def _output(self, name: str, path: tuple[str, ...]) -> str:
        """Return the output that a document's name means: outputs that feed others are observed."""
        outputs = self.levelled.outputs
        if name in outputs:
            return name
        if f"{name}.observed" in outputs:
            return f"{name}.observed"
        raise wrong(path, f"{name!r} is not an output" + nearest(name, (o.removesuffix(".observed") for o in outputs)))

    def inputs(self, *, dry: bool = False) -> dict[str, Array]:
        """Return {source: (batch, *shape)}; raises InputError where data are missing or do not fit.

        ``dry``: check without drawing numbers or loading data sets; what is returned is no data.
        """
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
        problems = [*unknown, *missing]
        return self._load("inputs", {name: (name, given[name]) for name in sources if name in given}, problems, dry)

    def targets(self, *, dry: bool = False) -> dict[str, Array]:
        """Return {output: (batch, *shape)}; raises InputError where targets are missing or do not fit."""
        found: dict[str, tuple[str, Any]] = {}
        problems: list[Problem] = []
        for name, source in self.document.targets.items():
            try:
                found[self._output(name, ("targets", name))] = (name, source)
            except InputError as error:
                problems += error.problems
        problems += [
            Problem(
                ("targets",),
                f"output {name!r} has no target; add {name.removesuffix('.observed')}: ... under 'targets'",
            )
            for name in self.levelled.outputs
            if name not in found
        ]
        return self._load("targets", found, problems, dry)

    def _load(
        self, section: str, sources: Mapping[str, tuple[str, Any]], problems: list[Problem], dry: bool
    ) -> dict[str, Array]:
        """Return {vertex: data} from {vertex: (name in the document, source)}."""
        loaded = {}
        for vertex, (name, source) in sources.items():
            try:
                found = load(entry_of(source), self._wanted(self.levelled.vertices[vertex].shape, name, dry))
                loaded[vertex] = found if dry else rounded(found, self.dtype)
            except InputError as error:
                problems += error.map(lambda problem: problem.under(section, name)).problems  # noqa: B023
        if problems:
            raise InputError(problems)
        return loaded

    def _wanted(self, shape: tuple[int, ...], name: str, dry: bool) -> Wanted:
        seed = self.document.seed

        def draws(kind: str) -> Generator:
            return stream(seed, kind) if kind == "shuffle" else stream(seed, kind, name)

        return Wanted(shape, self.document.batch, draws, self.folder, dry)

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
        try:
            array = read_npz(self.folder / wish.file, name)
        except InputError as error:
            raise error.map(lambda problem: replace(problem, path=("initial", "file"))) from None
        if array.shape != full:
            raise wrong(
                ("initial", "file"), f"the state of {name!r} has shape {list(array.shape)}, expected {list(full)}"
            )
        return array

    def task(self, *, initial: Mapping[str, Array] | None = None, keep_values: bool = False) -> Task:
        """Return everything an engine needs; raises InputError with every problem of the data."""
        self._check_size()
        HostMemory().admit(self.memory)
        names = ("parameters", "inputs", "targets", "losses", "initial")
        parts = self._collected({name: getattr(self, name) for name in names})
        parts["initial"] = dict(initial) if initial is not None else parts["initial"]
        return Task(
            self.levelled, self.rule, self.ticks, self.document.batch, self.dtype, keep_values=keep_values,
            seed=self.document.seed, **parts,
        )  # fmt: skip

    @property
    def memory(self) -> dict[str, int]:
        """The bytes that a task takes before any engine has it: parameters, and data of sources and outputs."""
        graph, itemsize = self.levelled, self.dtype.itemsize
        data = [name for name in graph.vertices if graph.role(name) == "source"] + list(graph.outputs)
        return {
            "parameters": sum(prod(parameter.shape) for parameter in graph.parameters.values()) * itemsize,
            "data": sum(prod(graph.vertices[name].shape) for name in data) * self.document.batch * itemsize,
        }

    def check(self) -> None:
        """Check all that a task needs, without drawing numbers or loading data sets; raises InputError."""
        self._check_size()
        files = {name: row for name, row in self.graph.parameters.items() if row.init[0] == "file"}
        given = isinstance(self.document.initial, InitialEntry) and self.document.initial.file is not None
        self._collected({
            "parameters": lambda: initialise(replace(self.graph, parameters=files), 0, self.dtype, self.folder),
            "inputs": lambda: self.inputs(dry=True),
            "targets": lambda: self.targets(dry=True),
            "losses": self.losses,
            "initial": self.initial if given else dict,
        })  # fmt: skip

    def _collected(self, steps: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        """Return what each step makes; raises InputError with the problems of all, each in its place."""
        made: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, step in steps.items():
            try:
                made[name] = step()
            except InputError as error:
                problems += error.problems
        if problems:
            raise self.located(InputError(dict.fromkeys(problems)))
        return made

    def _check_size(self) -> None:
        batch = self.document.batch
        numbers = batch * sum(prod(vertex.shape) for vertex in self.graph.vertices.values())
        numbers += sum(prod(parameter.shape) for parameter in self.graph.parameters.values())
        shapes = {name: prod(vertex.shape) for name, vertex in self.graph.vertices.items()}
        numbers += batch * sum((edge.value_delay + edge.error_delay) * shapes[edge.pre] for edge in self.graph.edges)
        if numbers > MOST_NUMBERS:
            message = (
                f"with batch {batch} values and messages in flight are {numbers:.0e} numbers, "
                f"expected at most {MOST_NUMBERS:.0e}"
            )
            raise self.located(wrong("batch", message))
