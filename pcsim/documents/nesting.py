"""Nested graph documents: ``use: cell.yaml`` becomes the vertices of that document, named ``NAME.child``."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.documents.positions import with_location
from pcsim.documents.rewiring import Outer, prefixed, rewired, source_of, wired
from pcsim.documents.tree import Entry, Key, Node, plain
from pcsim.errors import InputError, Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MOST_NESTED = 20
KEYS = ("use", "args", "inputs", "params")


@dataclass(frozen=True)
class Files:
    """How nested documents are read; what a graph document may hold is known elsewhere.

    Attributes
    ----------
    read : (path, args) -> the document with ``$`` filled in and every vertex written out; raises InputError
    rebased : (document, prefix) -> the document, with the files that it names sought along the prefix
    """

    read: Callable[[Path, Mapping[str, Any]], Node]
    rebased: Callable[[Node, str], Node]


def flatten(document: Node, folder: Path, files: Files, above: tuple[Path, ...] = ()) -> Node:
    """Return a graph document in which every ``use`` is replaced by the vertices it names.

    A nested document's input vertices are replaced by what ``inputs: {child: outer}`` names; its named
    parameters by what ``params: {child: outer}`` names, or they become ``NAME.parameter``. ``NAME``
    alone means the nested document's only output. Where ``inputs`` carries a delay it is added to that of
    the nested document's edge, value and error separately.

    Parameters
    ----------
    above : the files that this document is nested in, outermost first

    Raises
    ------
    InputError
        With every problem of the nested documents: files that are missing or use themselves, unknown names.
    """
    vertices = _entries(document, "vertices")
    uses = {str(name): entry for name, entry in vertices.items() if "use" in (entry.value.entries or {})}
    if not uses:
        return document
    nests, problems = _nests([_Use(name, entry, folder, files, above) for name, entry in uses.items()])
    if problems:
        raise InputError(problems)
    return _flat(document, vertices, nests)


def _nests(uses: Iterable[_Use]) -> tuple[dict[str, _Nest], list[Problem]]:
    nests: dict[str, _Nest] = {}
    problems: list[Problem] = []
    for use in uses:
        try:
            nests[use.name] = use.nest()
        except InputError as error:
            problems += error.problems
    return nests, problems


def _flat(document: Node, vertices: Mapping[Key, Entry], nests: Mapping[str, _Nest]) -> Node:
    names = {name: nest.output for name, nest in nests.items() if nest.output}
    made: dict[Key, Entry] = {}
    parameters = dict(_entries(document, "parameters"))
    for name, entry in vertices.items():
        if nest := nests.get(str(name)):
            _add(made, nest.vertices(names), entry)
            _add(parameters, nest.parameters, entry)
        else:
            _add(made, {name: replace(entry, value=rewired(entry.value, "inputs", names))}, entry)
    entries = dict(rewired(document, "outputs", names).entries or {})
    for key, section in (("vertices", made), ("parameters", parameters)):
        if section:
            entries[key] = _section(document, key, section)
    return replace(document, entries=entries)


def _add(made: dict[Key, Entry], more: Mapping[Key, Entry], nest: Entry) -> None:
    if twice := [key for key in more if key in made]:
        message = f"the name {twice[0]!r} is taken twice; rename one of them"
        raise InputError([Problem(("vertices", nest.key), message, nest.location)])
    made.update(more)


@dataclass(frozen=True)
class _Nest:
    """One nested document, its names already prefixed."""

    made: Mapping[Key, Entry]
    parameters: Mapping[Key, Entry]
    outer: Outer
    """{prefixed input vertex: what it stands for outside}."""
    output: str | None

    def vertices(self, names: Mapping[str, str]) -> dict[Key, Entry]:
        return {key: replace(entry, value=wired(entry.value, self.outer, names)) for key, entry in self.made.items()}


@dataclass(frozen=True)
class _Use:
    """One vertex with ``use``, and where the document that it names is sought."""

    name: str
    entry: Entry
    folder: Path
    files: Files
    above: tuple[Path, ...]

    def nest(self) -> _Nest:
        self._check_keys()
        inner = self._inner()
        children, own = _entries(inner, "vertices"), _entries(inner, "parameters")
        inputs, params = self._map("inputs"), self._map("params")
        self._check_names({"inputs": _inputs(children), "params": [str(key) for key in own]})
        renamed = {str(key): f"{self.name}.{key}" for key in own}
        renamed |= {key: str(node.value) for key, node in params.items()}
        made = self._made({key: child for key, child in children.items() if str(key) not in inputs}, renamed)
        kept: dict[Key, Entry] = {
            renamed[str(key)]: replace(old, key=renamed[str(key)]) for key, old in own.items() if str(key) not in params
        }
        outer = {f"{self.name}.{key}": node for key, node in inputs.items()}
        return _Nest(made, kept, outer, self._output(inner, children))

    def _made(self, children: Mapping[Key, Entry], renamed: Mapping[str, str]) -> dict[Key, Entry]:
        names: dict[Key, str] = {key: f"{self.name}.{key}" for key in children}
        values = {key: prefixed(child.value, self.name, renamed) for key, child in children.items()}
        return {names[key]: Entry(names[key], values[key], child.location) for key, child in children.items()}

    def _output(self, inner: Node, children: Mapping[Key, Entry]) -> str | None:
        outputs = [str(item.value) for item in _node(inner, "outputs").items or ()] or _sinks(children)
        return f"{self.name}.{outputs[0]}" if len(outputs) == 1 else None

    @property
    def _given(self) -> Mapping[Key, Entry]:
        return self.entry.value.entries or {}

    def _problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        """Return a problem of this ``use``, with its location in the document that says it."""
        problem = with_location(Problem(path, message), self.entry.value)
        return replace(problem, location=problem.location or self.entry.location).under("vertices", self.name)

    def _check_keys(self) -> None:
        unknown = [key for key in self._given if key not in KEYS]
        problems = [self._problem((key,), f"unknown key {key!r}" + nearest(str(key), KEYS)) for key in unknown]
        for key in ("args", "inputs", "params"):
            if key in self._given and self._given[key].value.entries is None:
                problems += [self._problem((key,), "expected names with values, such as {x: h1}")]
        if not isinstance(self._given["use"].value.value, str):
            problems.append(self._problem(("use",), "expected the name of a graph file"))
        if problems:
            raise InputError(problems)

    def _check_names(self, known: Mapping[str, list[str]]) -> None:
        file = self._given["use"].value.value
        problems = [
            self._problem((section, key), f"{file} has no {section[:-1]} {key!r}" + nearest(key, names))
            for section, names in known.items()
            for key in self._map(section)
            if key not in names
        ]
        if problems:
            raise InputError(problems)

    def _map(self, key: str) -> dict[str, Node]:
        entries = self._given[key].value.entries if key in self._given else None
        return {str(name): entry.value for name, entry in (entries or {}).items()}

    def _inner(self) -> Node:
        file = str(self._given["use"].value.value)
        path = Path(os.path.normpath(self.folder / file))
        self._check_depth(path)
        args = plain(self._given["args"].value) if "args" in self._given else {}
        try:
            document = flatten(self.files.read(path, args), path.parent, self.files, (*self.above, path))
        except InputError as error:
            raise error.map(self._at_this_use) from None
        prefix = os.path.dirname(file)  # noqa: PTH120 - kept as it is written
        return self.files.rebased(document, prefix) if prefix else document

    def _check_depth(self, path: Path) -> None:
        if path in self.above:
            chain = " -> ".join(other.name for other in (*self.above[self.above.index(path) :], path))
            raise InputError([self._problem(("use",), f"a graph cannot use itself: {chain}")])
        if len(self.above) >= MOST_NESTED:
            raise InputError([self._problem(("use",), f"graphs are nested deeper than {MOST_NESTED}")])

    def _at_this_use(self, problem: Problem) -> Problem:
        """Locate a missing file, or an argument that it does not take, at the line of this ``use``."""
        if problem.location is not None:
            return problem
        path = problem.path if problem.path[:1] == ("args",) else ("use",)
        return self._problem(path, problem.message)


def _inputs(children: Mapping[Key, Entry]) -> list[str]:
    found = ((key, (child.value.entries or {}).get("op")) for key, child in children.items())
    return [str(key) for key, op in found if op is not None and op.value.value == "input"]


def _sinks(children: Mapping[Key, Entry]) -> list[str]:
    inputs = (_node(child.value, "inputs").items or () for child in children.values())
    fed = {source_of(item) for items in inputs for item in items}
    return [str(key) for key in children if str(key) not in fed]


def _section(document: Node, key: str, entries: Mapping[Key, Entry]) -> Entry:
    old = (document.entries or {}).get(key)
    location = old.location if old else None
    return Entry(key, Node(location=old.value.location if old else None, entries=entries), location)


def _node(document: Node, key: str) -> Node:
    entry = (document.entries or {}).get(key)
    return entry.value if entry else Node()


def _entries(document: Node, key: str) -> Mapping[Key, Entry]:
    return _node(document, key).entries or {}
