"""A scenario: a checked experiment, ready to be levelled and run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from pcsim.documents import Positions, plain
from pcsim.documents.frozen_arrays import described, digest_of
from pcsim.engines.array.memory import HostMemory
from pcsim.engines.base import Task
from pcsim.errors import InputError, Problem, clipped, shortened, wrong
from pcsim.graph.crossings import with_channels
from pcsim.graph.edge_delays import drawn_delays, with_delays
from pcsim.graph.initialise import initialise
from pcsim.graph.level_forms import check_identities, level
from pcsim.graph.names import without_templates
from pcsim.graph.synapse_table import synapse_notes
from pcsim.program.lower import ticks_of
from pcsim.scenario.cycle_checks import cycle_notes
from pcsim.scenario.given_parameters import frozen_parameters, parameters_of_file
from pcsim.scenario.named_files import named_files
from pcsim.scenario.sample_reader import SampleReader
from pcsim.scenario.scenario_document import InitialEntry
from pcsim.scenario.task_data import TaskData

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pcsim.documents.frozen_arrays import FrozenArray
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule
    from pcsim.scenario.graph_source import DocumentFile
    from pcsim.scenario.scenario_document import ScenarioDocument

Array = np.ndarray

MOST_NUMBERS = 10**10
"""A run whose values alone are more numbers than this is refused before any memory is taken."""

_OF_DATA = ("_inputs", "_targets", "_warnings", "data_digest")
_OF_PARAMETERS = ("_ready", "_parameters", "_buffers", "parameters_digest")
"""What is worked out of the data alone, and of the parameters alone."""

_BEFORE: dict[str | int, tuple[str, ...]] = {"inputs": ("graph",), "targets": ("inputs", "graph")}
"""Sections, and those that they would stand after."""

T = TypeVar("T")


class shared(Generic[T]):  # noqa: N801  it reads as cached_property does
    """A property that is worked out once for a scenario and all that start from other parameters or data."""

    def __init__(self, work: Callable[[Any], T]) -> None:
        self.work, self.__doc__ = work, work.__doc__

    def __get__(self, scenario: Any, owner: Any = None) -> T:
        if scenario is None:
            return self  # type: ignore[return-value]
        kept, name = scenario.kept, self.work.__name__
        if name not in kept:
            kept[name] = self.work(scenario)
        found: T = kept[name]
        return found


@dataclass(frozen=True)
class Scenario:
    """What to simulate. Make one with ``pcsim.load``.

    Whatever depends on the scenario alone (the levelled graph, loaded data, drawn parameters, digests) is worked out
    once and kept with it; arrays that are returned are read-only.

    Attributes
    ----------
    document : the validated document, overrides applied
    graph : the graph as written, before levelling
    rule : the row of ``RULES`` with the scenario's settings
    folder : files named in the scenario are sought here
    positions : where everything stands in its file, for problems found later
    given : {parameter or buffer: values}, what `with_parameters` was given
    data : {"inputs" or "targets": {vertex: values}}, data that `with_data` was given
    remarks : what is legal in the documents and may yet be a slip
    origin : where there is a sweep, the document as it was read and the overrides: its cells are made of these
    """

    document: ScenarioDocument
    graph: Graph
    rule: Rule
    folder: Path
    positions: Positions = field(default_factory=Positions, repr=False, compare=False)
    given: Mapping[str, FrozenArray] = field(default_factory=dict, repr=False)
    data: Mapping[str, Mapping[str, FrozenArray]] = field(default_factory=dict, repr=False)
    remarks: tuple[Problem, ...] = field(default=(), repr=False, compare=False)
    origin: tuple[DocumentFile, Mapping[str, Any]] | None = field(default=None, repr=False, compare=False)
    sessions: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Sessions of runs that have ended, by engine: the next run begins there (``run/ready.py``)."""
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What depends on neither parameters nor data from Python: one for all scenarios that differ in these alone."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy keep: the scenario, without its sessions and what was worked out of it."""
        return {row.name: getattr(self, row.name) for row in fields(self)} | {"sessions": {}, "kept": {}}

    def __repr__(self) -> str:
        return f"Scenario({clipped(self.document.title)!r}, rule {self.rule.name}, {self.graph!r})"

    def located(self, error: InputError) -> InputError:
        """Return the error with file, line and column of each problem."""
        return self.positions.located(error.map(self._beside))

    def _beside(self, problem: Problem) -> Problem:
        """Return a problem of a section that is not there with the place where it would stand: after another one."""
        sections = self.positions.document.entries or {}
        section = problem.path[0] if problem.path else ""
        before = next((key for key in _BEFORE.get(section, ()) if key in sections), None)
        if section in sections or before is None or problem.location is not None:
            return problem
        places = [entry.location for entry in sections.values()]
        number = list(sections).index(before)
        return replace(problem, location=(places[number + 1 :] or places[number:])[0])

    # -- what it is ----------------------------------------------------------------------------------------

    @shared
    def plain(self) -> dict[str, Any]:
        """Return the whole scenario as data that JSON can hold, the graph written out.

        In place of more than 1,000 numbers stand their shape, number format and digest.
        """
        written = self.document.model_dump(exclude_defaults=True, by_alias=True)
        if "record" in written:
            written["record"] = [without_templates(probe, ("vertices",)) for probe in written["record"]]
        whole: dict[str, Any] = described({**written, "graph": without_templates(plain(self.positions.graph))})
        return whole

    @shared
    def files(self) -> dict[str, str]:
        """Fingerprints of the files with data, parameters or synapses: {name in the scenario: content}."""
        return named_files(self.plain, self.folder)

    @cached_property
    def digest(self) -> str:
        """A fingerprint of everything that decides the result, the content of files included."""
        given = [f"{name} {values.digest}" for name, values in sorted(self.given.items())]
        data = [
            f"{section} {name} {values.digest}"
            for section, arrays in sorted(self.data.items())
            for name, values in sorted(arrays.items())
        ]
        read = [f"{name} {content}" for name, content in self.files.items()]
        return sha256("".join([self._text, *given, *data, *read]).encode()).hexdigest()[:16]

    @shared
    def _text(self) -> str:
        return json.dumps(self.plain, sort_keys=True, default=str)

    @cached_property
    def data_digest(self) -> str:
        """A fingerprint of the data that a run is given: inputs, targets, and values at tick 0."""
        parts = {"inputs": self._inputs, "targets": self._targets, "initial": self._initial}
        return digest_of({f"{part} {name}": array for part, arrays in parts.items() for name, array in arrays.items()})

    @cached_property
    def parameters_digest(self) -> str:
        """A fingerprint of what a run starts from, parameters and given buffers: names, shapes, format and content."""
        return digest_of({**self._parameters, **self._buffers})

    @shared
    def levelled(self) -> Graph:
        """Return the graph that is run: with the scenario's channels, levelled as it asks and the rule brings."""
        if self.document.level == "identity":
            check_identities(self.graph, self.document.batch, self.dtype)
        graph = level(self.unlevelled, self.document.level)
        return level(graph, "delay") if self.rule.levelled else graph

    @property
    def unlevelled(self) -> Graph:
        """The graph with the delays and channels of the scenario, before it is levelled."""
        document, graph = self.document, self.graph
        if not (document.delays or document.channels or document.acts):
            return graph
        rows = {pattern: entry.channels() for pattern, entry in document.channels.items()}
        when = {pattern: entry.row() for pattern, entry in document.acts.items()}
        try:
            return with_channels(self._with_delays(graph), rows, when)
        except InputError as error:
            raise self.located(error) from None

    def _with_delays(self, graph: Graph) -> Graph:
        try:
            return with_delays(graph, drawn_delays(graph, self.document.delays, self.document.seed))
        except InputError as error:
            raise error.map(lambda problem: problem.under("delays")) from None

    @property
    def ticks(self) -> int:
        """The horizon: how many ticks a run takes at most; one, where its rest is solved for."""
        return 1 if self.document.solve == "equilibrium" else ticks_of(self.levelled, self.rule)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The number format."""
        return np.dtype(self.document.dtype)

    # -- parameters ----------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Array]:
        """Return {parameter: (*shape)}, the values a run starts from, read-only.

        They are what `with_parameters` was given, else what the file of the key ``parameters`` holds, else as ``init``
        says. Raises InputError where they do not fit.
        """
        return dict(self._parameters)

    def buffers(self) -> dict[str, Array]:
        """Return {``vertex.buffer``: (*shape)}, read-only: buffers that were given, here or in the graph's document.

        Others start as their op says, such as a running mean at 0. Raises InputError where they do not fit.
        """
        return dict(self._buffers)

    def with_parameters(self, given: Mapping[str, Any]) -> Scenario:
        """Return the scenario with other values for some of its parameters and buffers, or for all.

        Parameters
        ----------
        given : {parameter: (*shape)}, arrays or whatever NumPy reads (lists, tensors of PyTorch, DLPack); also
            {``vertex.buffer``: (*shape)}, such as ``norm.running_mean``

        Raises
        ------
        InputError
            For unknown names, wrong shapes, masked arrays, and numbers that are not finite in the scenario's format.
        """
        new = frozen_parameters(self.graph, given, self.dtype)
        return self._shared_with(replace(self, given={**self.given, **new}), *_OF_DATA)

    def with_data(self, inputs: Mapping[str, Any] | None = None, targets: Mapping[str, Any] | None = None) -> Scenario:
        """Return the scenario with other data for some of its sources and outputs, or for all.

        Parameters
        ----------
        inputs : {source: (batch, *shape)}, arrays or whatever NumPy reads
        targets : {output: (batch, *shape)}, likewise

        Raises
        ------
        InputError
            For unknown names, wrong shapes, masked arrays, and numbers that are not finite in the scenario's format.
        """
        given = {key: arrays for key, arrays in (("inputs", inputs), ("targets", targets)) if arrays is not None}
        made = _collected({section: partial(self._data.given, section, arrays) for section, arrays in given.items()})
        data = {**self.data, **{section: {**self.data.get(section, {}), **arrays} for section, arrays in made.items()}}
        return self._shared_with(replace(self, data=data), *_OF_PARAMETERS)

    def sample_reader(self) -> SampleReader:
        """Return what reads samples of the sources and outputs, by their number."""
        return SampleReader(self._data, self.data)

    def sized(self, batch: int) -> Scenario:
        """Return the scenario with another number of samples in its batch."""
        return replace(self, document=self.document.model_copy(update={"batch": batch}))

    def _shared_with(self, made: Scenario, *names: str) -> Scenario:
        """Return a scenario that shares what is kept with this one, and what these names say was worked out of it."""
        vars(made).update({name: vars(self)[name] for name in ("sessions", "kept", *names) if name in vars(self)})
        return made

    @shared
    def _of_file(self) -> dict[str, Array]:
        entry = self.document.parameters
        return {} if entry is None else parameters_of_file(self.graph, self.folder / entry.file, self.dtype)

    @cached_property
    def _ready(self) -> dict[str, Array]:
        return {**self._of_file, **{name: values.array for name, values in self.given.items()}}

    @cached_property
    def _buffers(self) -> dict[str, Array]:
        given = {name: array for name, array in self._ready.items() if name not in self.graph.parameters}
        others = [name for name in self.graph.buffers if name not in given]
        return _read_only({**self._initialised(others), **given})

    @cached_property
    def _parameters(self) -> dict[str, Array]:
        ready = dict(self._ready)
        ready |= self._initialised([name for name in self.graph.parameters if name not in ready])
        return _read_only({name: ready[name] for name in self.graph.parameters})

    def _initialised(self, names: list[str]) -> dict[str, Array]:
        drawn: dict[str, Array] = self.kept.setdefault("drawn", {})
        if new := [name for name in names if name not in drawn]:
            drawn.update(_read_only(initialise(self.graph, self.document.seed, self.dtype, self.folder, new)))
        return {name: drawn[name] for name in names}

    def _check_parameters(self) -> None:
        """Check the files that parameters and buffers start from."""
        given, starts = {*self._of_file, *self.given}, {**self.graph.parameters, **self.graph.buffers}
        self._initialised([name for name, row in starts.items() if row.init[0] == "file" and name not in given])

    # -- data ----------------------------------------------------------------------------------------------

    @shared
    def _data(self) -> TaskData:
        return TaskData(self.document, self.levelled, self.folder, self.dtype)

    @cached_property
    def _inputs(self) -> dict[str, Array]:
        return self._with_given("inputs", self._data.inputs)

    @cached_property
    def _targets(self) -> dict[str, Array]:
        return self._with_given("targets", self._data.targets)

    def _with_given(self, section: str, load: Callable[..., dict[str, Array]]) -> dict[str, Array]:
        """Return the data of a section: those that were given, and for the others what the document says."""
        given, known = self.data.get(section, {}), self.kept.setdefault(section, {})
        known.update(_read_only(load(but={*given, *known})))
        return {**known, **{name: values.array for name, values in given.items()}}

    @shared
    def _losses(self) -> dict[str, str]:
        return self._data.losses()

    @shared
    def _initial(self) -> dict[str, Array]:
        return _read_only(self._data.initial())

    def inputs(self) -> dict[str, Array]:
        """Return {source: (batch, *shape)}, read-only; raises InputError where data are missing or do not fit."""
        return dict(self._inputs)

    def targets(self) -> dict[str, Array]:
        """Return {output: (batch, *shape)}, read-only; raises InputError where targets are missing or do not fit."""
        return dict(self._targets)

    def losses(self) -> dict[str, str]:
        """Return {output: loss}; raises InputError for an unknown loss or output."""
        return dict(self._losses)

    def warnings(self) -> list[str]:
        """Return in sentences what is legal and may yet be a slip; raises InputError where targets do not fit."""
        return list(self._warnings if "_targets" in vars(self) else self._warnings_of(self._data.targets(dry=True)))

    @cached_property
    def _warnings(self) -> list[str]:
        return self._warnings_of(self._targets)

    def _warnings_of(self, targets: Mapping[str, Array]) -> list[str]:
        of_data = [self.positions.located(InputError([one])).problems[0] for one in self._data.target_remarks(targets)]
        return [*shortened([*self.remarks, *of_data]), *synapse_notes(self.graph), *cycle_notes(self.graph)]

    def initial(self) -> dict[str, Array]:
        """Return {free vertex: (batch, *shape)}, read-only, where the state at tick 0 is not the feedforward one."""
        return dict(self._initial)

    # -- what runs it --------------------------------------------------------------------------------------

    def task(self, *, initial: Mapping[str, Array] | None = None, keep_values: bool = False) -> Task:
        """Return everything an engine needs; raises InputError with every problem of the data."""
        parts: dict[str, Any] = {name: dict(part) for name, part in self._parts.items()}
        if initial is not None:
            parts["initial"] = dict(initial)
        return Task(
            self.levelled, self.rule, self.ticks, self.document.batch, self.dtype, keep_values=keep_values,
            seed=self.document.seed, **parts,
        )  # fmt: skip

    @cached_property
    def _parts(self) -> dict[str, dict[str, Any]]:
        self._check_size()
        HostMemory().admit(self.memory)
        names = ("parameters", "buffers", "inputs", "targets", "losses", "initial")
        return self._collected({name: getattr(self, name) for name in names})

    @shared
    def memory(self) -> dict[str, int]:
        """Return the bytes that a task takes before any engine has it: parameters, and data of sources and outputs."""
        graph, itemsize = self.levelled, self.dtype.itemsize
        data = [name for name in graph.vertices if graph.role(name) == "source"] + list(graph.outputs)
        return {
            "parameters": sum(prod(parameter.shape) for parameter in graph.parameters.values()) * itemsize,
            "data": sum(prod(graph.vertices[name].shape) for name in data) * self.document.batch * itemsize,
        }

    def check(self) -> None:
        """Check all that a task needs, without drawing numbers or loading data sets; raises InputError."""
        self._check_size()
        given = isinstance(self.document.initial, InitialEntry) and self.document.initial.file is not None
        self._collected({
            "parameters": self._check_parameters,
            "inputs": lambda: self._data.inputs(dry=True, but=self.data.get("inputs", {})),
            "targets": lambda: self._data.targets(dry=True, but=self.data.get("targets", {})),
            "losses": self.losses,
            "initial": self.initial if given else dict,
        })  # fmt: skip

    def _collected(self, steps: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        """Return what each step makes; raises InputError with the problems of all, each in its place."""
        try:
            return _collected(steps)
        except InputError as error:
            raise self.located(error) from None

    def _check_size(self) -> None:
        if self._numbers > MOST_NUMBERS:
            message = (
                f"with batch {self.document.batch} values and messages in flight are {self._numbers:.0e} numbers, "
                f"expected at most {MOST_NUMBERS:.0e}"
            )
            raise self.located(wrong("batch", message))

    @shared
    def _numbers(self) -> int:
        """Numbers that values, parameters and messages in flight are."""
        batch, edges = self.document.batch, self.graph.edges
        shapes = {name: prod(vertex.shape) for name, vertex in self.graph.vertices.items()}
        flying = sum((edge.value_delay + edge.error_delay) * shapes[edge.pre] for edge in edges)
        parameters = sum(prod(parameter.shape) for parameter in self.graph.parameters.values())
        return batch * (sum(shapes.values()) + flying) + parameters


def _collected(steps: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return what each step makes; raises InputError with the problems of all."""
    made: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, step in steps.items():
        try:
            made[name] = step()
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(dict.fromkeys(problems))
    return made


def _read_only(arrays: dict[str, Array]) -> dict[str, Array]:
    """Let no one write to arrays that are kept."""
    for array in arrays.values():
        array.setflags(write=False)
    return arrays
