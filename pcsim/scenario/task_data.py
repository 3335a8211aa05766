"""The data of a task: what sources and outputs are held at, the losses, and the values at tick 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.graph.array_files import read_array
from pcsim.graph.graph import number_format
from pcsim.graph.initialise import Generator, rounded, stream
from pcsim.ops import LOSSES
from pcsim.scenario.class_targets import class_problem, class_remark
from pcsim.scenario.data import DataRequest, entry_of, load, open_data
from pcsim.scenario.given_parameters import frozen_data
from pcsim.scenario.pairing import check_pairs, order_remarks
from pcsim.scenario.scenario_document import DataEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from pcsim.documents.frozen_arrays import FrozenArray
    from pcsim.graph.graph import Graph, Vertex
    from pcsim.scenario.data import Opened
    from pcsim.scenario.scenario_document import InitialEntry, ScenarioDocument

Array = np.ndarray
T = TypeVar("T")

Sources = Mapping[str, tuple[str, Any]]
"""{vertex: (its name in the document, its data there)}"""

_WHOLE, _PLAIN = np.dtype(np.int64), DataEntry(values=0.0)
"""The number format of whole numbers, and an entry whose data are as they are given."""


@dataclass(frozen=True)
class TaskData:
    """Loads and checks the data of a scenario; every problem has the path of its key.

    Attributes
    ----------
    graph : the levelled graph
    folder : files named in the document are sought here
    dtype : the number format that data are rounded to
    """

    document: ScenarioDocument
    graph: Graph
    folder: Path
    dtype: np.dtype[Any]

    @cached_property
    def _outputs(self) -> frozenset[str]:
        return frozenset(self.graph.outputs)

    def losses(self) -> dict[str, str]:
        """Return {output: loss}; raises InputError for an unknown loss or output."""
        given, outputs = self.document.loss, self.graph.outputs
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
        reasons = ((name, LOSSES[loss].refuses(self.graph.vertices[name].shape)) for name in outputs)
        return [Problem(path, f"{loss} {reason}: output {name!r}") for name, reason in reasons if reason][:1]

    def _output(self, name: str, path: tuple[str, ...]) -> str:
        """Return the output that a document's name means: outputs that feed others are observed."""
        if name in self._outputs:
            return name
        if f"{name}.observed" in self._outputs:
            return f"{name}.observed"
        known = (output.removesuffix(".observed") for output in self.graph.outputs)
        raise wrong(path, f"{name!r} is not an output" + nearest(name, known))

    def given(self, section: str, arrays: Any) -> dict[str, FrozenArray]:
        """Return arrays that stand for the data of some sources, or outputs, by vertex.

        Raises InputError for unknown names, wrong shapes, masked arrays and numbers that do not fit.
        """
        batch, vertices = self.document.batch, self.graph.vertices
        names = self._sources if section == "inputs" else self.graph.outputs
        formats = {
            name: ((batch, *vertices[name].shape), self.dtype if number_format(vertices[name]) == "float" else _WHOLE)
            for name in names
        }
        if section == "inputs" or not isinstance(arrays, Mapping):
            return frozen_data(section, formats, arrays)
        outputs = {name: self._output(name, (section, name)) for name in arrays}
        made = frozen_data(section, {name: formats[output] for name, output in outputs.items()}, arrays)
        losses = self.losses()
        taken = [name for name, output in outputs.items() if LOSSES[losses[output]].takes_classes]
        said = {name: class_problem(_PLAIN, made[name].array) for name in taken}
        about = [
            Problem((section, name), f"under {losses[outputs[name]]} {text}") for name, text in said.items() if text
        ]
        if about:
            raise InputError(about)
        return {outputs[name]: values for name, values in made.items()}

    @cached_property
    def _sources(self) -> tuple[str, ...]:
        return tuple(name for name, vertex in self.graph.vertices.items() if vertex.op.role == "source")

    def inputs(self, *, dry: bool = False, but: Collection[str] = ()) -> dict[str, Array]:
        """Return {source: (batch, *shape)}; raises InputError where data are missing or do not fit.

        ``dry``: check without drawing numbers or loading data sets; what is returned is no data. ``but``: not these.
        """
        return self._load("inputs", *self._of_inputs(but), dry)

    def targets(self, *, dry: bool = False, but: Collection[str] = ()) -> dict[str, Array]:
        """Return {output: (batch, *shape)}, without some; raises InputError where targets are missing or do not fit."""
        loaded = self._load("targets", *self._of_targets(but), dry)
        self.check_classes(loaded)
        check_pairs(self.document)
        return loaded

    def opened(self, section: str, split: str | None, read: dict[Any, Any], but: Collection[str]) -> dict[str, Opened]:
        """Return {source or output: its data, none of them taken yet}, without some.

        Parameters
        ----------
        section : ``inputs`` or ``targets``
        split : the part of data sets that is read in place of what entries say
        read : what has been read already, which is added to

        Raises
        ------
        InputError
            Where data are missing or do not fit.
        """
        sources, problems = (self._of_inputs if section == "inputs" else self._of_targets)(but)
        check_pairs(self.document)
        return self._each(section, sources, problems, lambda vertex, name, source: open_data(
            entry_of(source), self._request(vertex, name, batch=None, read=read, split=split)))  # fmt: skip

    def _of_inputs(self, but: Collection[str]) -> tuple[Sources, list[Problem]]:
        """Return {source: (name in the document, data)}, without some, and what is unknown or missing."""
        sources = dict.fromkeys(self._sources)
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
            if name not in given and name not in but
        ]
        wanted = [name for name in sources if name in given and name not in but]
        return {name: (name, given[name]) for name in wanted}, [*unknown, *missing]

    def _of_targets(self, but: Collection[str]) -> tuple[Sources, list[Problem]]:
        """Return {output: (name in the document, target)}, without some, and what is unknown or missing."""
        known: dict[str, tuple[str, Any]] = {}
        problems: list[Problem] = []
        for name, source in self.document.targets.items():
            try:
                known[self._output(name, ("targets", name))] = (name, source)
            except InputError as error:
                problems += error.problems
        problems += [
            Problem(
                ("targets",),
                f"output {name!r} has no target; add {name.removesuffix('.observed')}: ... under 'targets'",
            )
            for name in self.graph.outputs
            if name not in known and name not in but
        ]
        return {name: row for name, row in known.items() if name not in but}, problems

    def check_classes(self, targets: Mapping[str, Array]) -> None:
        """Raise InputError for targets, as `targets` returns them, that are to be weights of classes and cannot."""
        if problems := [*self._about_classes(targets, class_problem)]:
            raise InputError(problems)

    def target_remarks(self, targets: Mapping[str, Array]) -> list[Problem]:
        """Return what is legal in targets, as `targets` returns them, and may yet be a slip."""
        return [*order_remarks(self.document), *self._about_classes(targets, class_remark)]

    def _about_classes(
        self, targets: Mapping[str, Array], said: Callable[[DataEntry, Array], str]
    ) -> Iterator[Problem]:
        """Yield what is said of targets that are probabilities of classes."""
        try:
            losses = self.losses()
        except InputError:  # it is reported with the losses
            return
        for name, source in self.document.targets.items():
            output = self._output(name, ("targets", name))
            classes = output in targets and LOSSES[losses[output]].takes_classes
            if classes and (text := said(entry_of(source), targets[output])):
                yield Problem(("targets", name), f"under {losses[output]} {text}")

    def _load(self, section: str, sources: Sources, problems: list[Problem], dry: bool) -> dict[str, Array]:
        """Return {vertex: data} from {vertex: (name in the document, source)}."""
        read = dict[Any, Any]()

        def loaded(vertex: Vertex, name: str, source: Any) -> Array:
            data = load(entry_of(source), self._request(vertex, name, batch=self.document.batch, read=read, dry=dry))
            return data if dry else self.numbers(vertex.name, data)

        return self._each(section, sources, problems, loaded)

    def _each(
        self, section: str, sources: Sources, problems: list[Problem], step: Callable[[Vertex, str, Any], T]
    ) -> dict[str, T]:
        """Return {vertex: what a step makes of its data}; raises InputError with these problems and all others."""
        made = {}
        for vertex, (name, source) in sources.items():
            try:
                made[vertex] = step(self.graph.vertices[vertex], name, source)
            except InputError as error:
                problems += error.map(lambda problem: problem.under(section, name)).problems  # noqa: B023
        if problems:
            raise InputError(problems)
        return made

    def numbers(self, vertex: str, data: Array) -> Array:
        """Return data in the number format of a vertex; raises InputError where whole numbers are none."""
        if number_format(self.graph.vertices[vertex]) == "float":
            return rounded(data, self.dtype)
        if data.dtype.kind not in "biu" and (data != np.floor(data)).any():
            raise wrong((), "expected whole numbers (format: whole)")
        return np.asarray(data, np.int64)

    def _request(
        self, vertex: Vertex, name: str, *, batch: int | None, read: dict[Any, Any], dry: bool = False,
        split: str | None = None,
    ) -> DataRequest:  # fmt: skip
        seed = self.document.seed

        def draws(kind: str, shared: bool) -> Generator:
            return stream(seed, kind) if shared else stream(seed, kind, name)

        whole = number_format(vertex) == "whole"
        return DataRequest(vertex.shape, batch, draws, self.folder, dry, whole, read, split, self.dtype)

    def initial(self) -> dict[str, Array]:
        """Return {free vertex: (batch, *shape)} where the state at tick 0 is not the feedforward one."""
        given = self.document.initial
        if self.document.start.acyclic or given == "given":
            return {}
        return {
            name: self._initial(given, name).astype(self.dtype)
            for name in self.graph.active
            if self.graph.role(name) == "free"
        }

    def _initial(self, given: str | InitialEntry, name: str) -> Array:
        full = (self.document.batch, *self.graph.vertices[name].shape)
        if isinstance(given, str):
            return np.zeros(full)
        if given.file is None:
            return stream(self.document.seed, "initial", name).normal(0.0, given.normal or 0.0, full)
        try:
            array = read_array(self.folder / given.file, name)
        except InputError as error:
            raise error.map(lambda problem: replace(problem, path=("initial", "file"))) from None
        if array.shape != full:
            raise wrong(
                ("initial", "file"), f"the state of {name!r} has shape {list(array.shape)}, expected {list(full)}"
            )
        return array
