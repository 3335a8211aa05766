"""From a scenario's ``record`` to channels of a trace: what is read from a session, where, how often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.theory import divergence_series
from pcsim.arrays import Shape
from pcsim.errors import InputError, Problem, nearest
from pcsim.graph.graph import Graph
from pcsim.trace.channel import Channel, shape_key

if TYPE_CHECKING:
    from pcsim.analysis.meter import Meter
    from pcsim.engines.base import Session, Task
    from pcsim.scenario.models import RecordEntry

UNITS = ("value", "prediction", "error")
SERIES = ("energy", "norm", "divergence")


def selected(graph: Graph, patterns: str | Sequence[str]) -> tuple[str, ...]:
    """Return the vertices that patterns such as ``h*`` choose, in canonical order; raises InputError."""
    names = [name for name, vertex in graph.vertices.items() if vertex.op.role != "parameter"]
    if isinstance(patterns, str):
        return tuple(names)
    wanted = [pattern for pattern in patterns if "->" not in pattern]
    for place, pattern in enumerate(patterns):
        known = names if "->" not in pattern else [edge.name for edge in graph.edges]
        if not any(fnmatchcase(name, pattern) for name in known):
            kind = "edge" if "->" in pattern else "vertex"
            raise InputError(
                [Problem(("vertices", place), f"no {kind} is named {pattern!r}" + nearest(pattern, known))]
            )
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in wanted))


def selected_edges(graph: Graph, patterns: str | Sequence[str]) -> list[str]:
    """Return the edges that patterns choose, by their own name or by that of a vertex at either end."""
    vertices = set(selected(graph, patterns))
    chosen = [] if isinstance(patterns, str) else [pattern for pattern in patterns if "->" in pattern]
    return [
        edge.name
        for edge in graph.edges
        if graph.vertices[edge.pre].op.role != "parameter"
        and (
            edge.pre in vertices or edge.post in vertices or any(fnmatchcase(edge.name, pattern) for pattern in chosen)
        )
    ]


def check_record(graph: Graph, record: Iterable[RecordEntry]) -> None:
    """Check that probes name what exists and that one quantity has one rhythm; raises InputError."""
    problems: list[Problem] = []
    rhythm: dict[str, int] = {}
    for place, entry in enumerate(record):
        try:
            selected(graph, entry.vertices)
        except InputError as error:
            problems += error.map(lambda problem: problem.under("record", place)).problems  # noqa: B023
        for what in entry.what:
            node = "series" if what in SERIES else what
            if rhythm.setdefault(node, entry.every) != entry.every:
                message = f"{what!r} is recorded every {rhythm[node]} ticks by another probe: give both one rhythm"
                problems.append(Problem(("record", place, "every"), message))
    if problems:
        raise InputError(problems)


def channels(task: Task, session: Session, meter: Meter | None, record: Iterable[RecordEntry]) -> list[Channel]:
    """Return the channels that probes ask for; each name once, whichever probe asked."""
    wanted: dict[str, dict[str, None]] = defaultdict(dict)
    every: dict[str, int] = {}
    for entry in record:
        for what in entry.what:
            every[what] = entry.every
            names = (
                selected_edges(task.graph, entry.vertices)
                if what == "message"
                else selected(task.graph, entry.vertices)
            )
            wanted[what] |= dict.fromkeys(task.graph.parameters if what == "update" else names)
    makers: Mapping[str, Callable[..., list[Channel]]] = {
        **dict.fromkeys(UNITS, _units), **dict.fromkeys(SERIES, _series), "message": _messages, "update": _updates,
    }  # fmt: skip
    made = [makers[what](what, task, session, meter, list(names), every[what]) for what, names in wanted.items()]
    return [channel for group in made for channel in group]


def _by_shape(names: Iterable[str], shape: Callable[[str], Shape]) -> dict[Shape, list[str]]:
    groups: dict[Shape, list[str]] = defaultdict(list)
    for name in names:
        groups[shape(name)].append(name)
    return groups


def _axes(shape: Shape) -> tuple[str, ...]:
    return tuple(f"axis_{number}" for number in range(len(shape)))


def _units(what: str, task: Task, session: Session, meter: Meter | None, names: list[str], every: int) -> list[Channel]:
    graph = task.graph
    kept = names if what == "value" else [name for name in names if graph.vertices[name].op.role == "function"]
    return [
        _channel(f"{what}/{shape_key(shape)}", what, "vertex", members, (task.batch, *shape), task.dtype,
                 _joined(graph, session, what, members), every)
        for shape, members in _by_shape(kept, lambda name: graph.vertices[name].shape).items()
    ]  # fmt: skip


def _joined(graph: Graph, session: Session, what: str, names: list[str]) -> Callable[[], np.ndarray]:
    """Return a reader over active vertices and sources alike."""
    split = [[n for n in names if (graph.vertices[n].op.role == "source") == source] for source in (False, True)]
    reads = [session.reader(what, part) for part in split if part]
    order = np.argsort([names.index(name) for part in split for name in part], kind="stable") if all(split) else None
    if order is None:
        return reads[0]
    return lambda: np.concatenate([read() for read in reads])[order]


def _channel(
    path: str, variable: str, label: str, names: Sequence[str], shape: Shape, dtype: Any,
    read: Callable[[], np.ndarray], every: int,
) -> Channel:  # fmt: skip
    dims = (label, "batch", *_axes(shape[1:]))
    return Channel(path, variable, dims, (len(names), *shape), dtype, read, tuple(names), {}, every)


def _series(
    what: str, task: Task, session: Session, meter: Meter | None, names: list[str], every: int
) -> list[Channel]:
    assert meter is not None
    if what == "energy":
        return [Channel("series", what, (), (), np.dtype(float), lambda: np.asarray(meter.energy), (), {}, every)]
    place = {name: number for number, name in enumerate(meter.names)}
    kept = [name for name in names if name in place]
    index = np.array([place[name] for name in kept], np.intp)
    coords = {"level": ("vertex", meter.levels[index])}

    def channel(variable: str, read: Callable[[], np.ndarray]) -> Channel:
        return Channel("series", variable, ("vertex",), (len(kept),), np.dtype(float), read, tuple(kept), coords, every)

    made = [channel(what, lambda: getattr(meter, what)[index])]
    theory = divergence_series(task, kept, np.arange(0, task.ticks, every)) if what == "divergence" else None
    if theory is not None:
        made.append(channel("theory", lambda: theory[:, meter.tick // every]))
    return made


def _messages(
    what: str, task: Task, session: Session, meter: Meter | None, names: list[str], every: int
) -> list[Channel]:
    graph = task.graph
    made = []
    for kind in ("value", "error"):
        kept = [name for name in names if kind == "value" or graph.carries_errors(graph.edge(name))]
        for shape, members in _by_shape(kept, lambda name: graph.vertices[graph.edge(name).pre].shape).items():
            read = session.reader(f"{kind} message", members)
            made.append(
                _channel(
                    f"message/{kind}/{shape_key(shape)}",
                    what,
                    "edge",
                    members,
                    (task.batch, *shape),
                    task.dtype,
                    read,
                    every,
                )
            )
    return made


def _updates(
    what: str, task: Task, session: Session, meter: Meter | None, names: list[str], every: int
) -> list[Channel]:
    made = []
    for shape, members in _by_shape(names, lambda name: task.graph.parameters[name].shape).items():
        dims = ("parameter", *_axes(shape))
        made.append(Channel(f"update/{shape_key(shape)}", what, dims, (len(members), *shape), task.dtype,
                            _update_reader(session, members), tuple(members), {}, every))  # fmt: skip
    return made


def _update_reader(session: Session, names: Sequence[str]) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        learnt = session.updates()
        return np.stack([learnt[name] for name in names])

    return read


def learnt(updates: Mapping[str, np.ndarray]) -> list[tuple[str, str, tuple[str, ...], np.ndarray, tuple[str, ...]]]:
    """Return what was learnt as static arrays of a trace: (path, variable, dims, array, names)."""
    return [
        (
            f"learnt/{shape_key(shape)}",
            "learnt",
            ("parameter", *_axes(shape)),
            np.stack([updates[name] for name in names]),
            tuple(names),
        )
        for shape, names in _by_shape(updates, lambda name: updates[name].shape).items()
    ]
