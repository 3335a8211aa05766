"""The ledger of a tick: what arrived at a vertex, what it made of it, and that the numbers add up."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.backprop import sweep
from pcsim.engines.base import clamped
from pcsim.errors import RunError, nearest, whole, wrong
from pcsim.graph.crossings import crossings
from pcsim.graph.levels import vertex_levels
from pcsim.program.lower import precision_of
from pcsim.rules import DYNAMICS
from pcsim.run.numbers import AGAIN, FROM, Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.engines import Task
    from pcsim.graph.graph import Edge
    from pcsim.run.numbers import Numbers
    from pcsim.run.rerun import Key
    from pcsim.run.result import Run


@dataclass(frozen=True)
class Message:
    """A message that arrives in a tick.

    Attributes
    ----------
    edge, kind, sender, slot : the edge; ``value`` or ``error``; the vertex that sent it; the input of the post vertex
    sent, arrived : ticks; a message sent before tick 0 is a feedforward value, or no error; over a channel, the tick
        at which the newest that is held was sent
    contents : x of the sender, or J^T Pi eps
    """

    edge: str
    kind: str
    sender: str
    slot: int
    sent: int
    arrived: int
    contents: Line

    def as_dict(self) -> dict[str, Any]:
        """Return the message as plain data."""
        return {
            "edge": self.edge, "kind": self.kind, "sender": self.sender, "slot": self.slot, "sent": self.sent,
            "arrived": self.arrived, **{key: value for key, value in self.contents.as_dict().items() if key != "name"},
        }  # fmt: skip


@dataclass(frozen=True)
class Ledger:
    """What one vertex did in one tick.

    Attributes
    ----------
    vertex, tick, op, role, shape, batch, level : ``role`` is source, free, clamped (an output at its target), output
        (its error is that of a loss) or frozen
    inbox : the messages that arrived
    lines : value before, prediction, error, -Pi eps, multiplier (where the rule keeps one), the sum received, the
        change, value after; in this order
    step_size : gamma
    notes : what is to know of it, such as what could not be computed again
    """

    vertex: str
    tick: int
    op: str
    role: str
    shape: tuple[int, ...]
    batch: int
    level: int | None
    inbox: tuple[Message, ...]
    lines: tuple[Line, ...]
    step_size: float
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        values = sum(message.kind == "value" for message in self.inbox)
        return (
            f"Ledger({self.vertex!r}, tick {self.tick}, {self.role}, {values} values and "
            f"{len(self.inbox) - values} errors arrived, {self._sum})"
        )

    @property
    def _sum(self) -> str:
        if self.residual is None:
            return "not all numbers are known"
        return f"{'adds up' if self.adds_up else 'does not add up'} to {self.residual:.1e}"

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the numbers of a line, (batch, *shape); raises KeyError where there is none or it is not known."""
        for line in self.lines:
            if line.name == name and line.numbers is not None:
                return line.numbers
        raise KeyError(name)

    @property
    def residual(self) -> float | None:
        """The largest |value after - value before - change|; None where one of them is not known."""
        try:
            return float(np.max(np.abs(self["value after"] - self["value before"] - self["change"]), initial=0.0))
        except KeyError:
            return None

    @property
    def adds_up(self) -> bool:
        """Whether the residual is no more than rounding of the largest term: one for each error and each line."""
        if self.residual is None:
            return False
        lines = [*self.lines, *(message.contents for message in self.inbox if message.kind == "error")]
        terms = [line.numbers for line in lines if line.numbers is not None]
        largest = max(float(np.max(np.abs(numbers), initial=0.0)) for numbers in terms)
        return self.residual <= (len(lines) + 1) * float(np.finfo(self["value before"].dtype).eps) * largest

    def as_dict(self) -> dict[str, Any]:
        """Return the ledger as plain data."""
        return {
            "vertex": self.vertex, "tick": self.tick, "op": self.op, "role": self.role, "shape": list(self.shape),
            "batch": self.batch, "level": self.level, "step_size": self.step_size,
            "inbox": [message.as_dict() for message in self.inbox], "lines": [line.as_dict() for line in self.lines],
            "residual": self.residual, "adds_up": self.adds_up, "notes": list(self.notes),
        }  # fmt: skip


def ledger_of(numbers: Numbers, vertex: str, tick: int) -> Ledger:
    """Return the ledger of a vertex at a tick of a run.

    Raises
    ------
    InputError
        If there is no such vertex with units, the run had no such tick, or each of its ticks was a sweep.
    """
    _check_vertex(numbers.task, vertex)
    _check_rule(numbers.task)
    tick = check_tick(numbers.run, tick)
    with np.errstate(all="ignore"):  # a run that failed has numbers near the end of their format
        made = _made(numbers, vertex, tick, _role(numbers.task, vertex))
        if not made.adds_up and _frozen(numbers, vertex, tick + 1):
            made = _made(numbers, vertex, tick, "frozen")
    return replace(made, notes=tuple(numbers.notes))


def _made(numbers: Numbers, vertex: str, tick: int, role: str) -> Ledger:
    task = numbers.task
    now, inbox = _inbox(numbers, vertex, tick)
    after = numbers.at(tick + 1, _units(task, vertex) if role == "output" else [("value", vertex)])
    before, last = now["value", vertex], after["value", vertex]
    lines = [Line("value before", before.numbers, before.origin, f"x({tick})")]
    if role != "source":
        lines += _error_lines(task, vertex, now, inbox)
    lines.append(_change(task, vertex, role, lines, now, after))
    lines.append(Line("value after", last.numbers, last.origin, f"x({tick + 1})"))
    entry, gamma = task.graph.vertices[vertex], task.step_sizes.get(vertex, task.rule.step_size)
    level = vertex_levels(task.graph)[vertex]
    return Ledger(vertex, tick, entry.op.name, role, entry.shape, task.batch, level, tuple(inbox), tuple(lines), gamma)


def _check_vertex(task: Task, vertex: str) -> None:
    vertices = task.graph.vertices
    if vertex not in vertices or vertices[vertex].op.role == "parameter":
        known = [name for name, entry in vertices.items() if entry.op.role != "parameter"]
        what = "is a parameter and has no units" if vertex in task.graph.parameters else "is no vertex of the graph"
        raise wrong("vertex", f"{vertex!r} {what}{nearest(vertex, known)}")


def _check_rule(task: Task) -> None:
    if task.rule.sweeps:
        kept = DYNAMICS[task.rule.dynamics]
        raise wrong("rule", f"under rule {task.rule.name!r} vertices keep {kept}; a ledger is of values that move")


def check_tick(run: Run, tick: int) -> int:
    """Return a tick of a run; raises InputError where it is no whole number, or the run did not have it."""
    ticks = run.summary["ticks"]
    with suppress(ValueError):
        if 0 <= whole(tick) < ticks:
            return whole(tick)
    raise wrong("tick", f"got {tick!r}; this run has ticks 0 to {ticks - 1}" if ticks else "this run has no ticks")


def _role(task: Task, vertex: str) -> str:
    role = task.graph.role(vertex)
    return "clamped" if role == "output" and clamped(task, vertex) else role


def _frozen(numbers: Numbers, vertex: str, tick: int) -> bool:
    """Return whether a vertex is held at its feedforward value by a tick; only a vertex that has fired may be."""
    if not (numbers.task.rule.fires.at_front and numbers.rerun):
        return False
    try:
        return vertex in numbers.rerun.frozen(tick)
    except RunError:
        return False


def _units(task: Task, vertex: str) -> list[Key]:
    source = task.graph.vertices[vertex].op.role == "source"
    kept = ("multiplier",) if task.rule.keeps_multipliers else ()
    return [(quantity, vertex) for quantity in (("value",) if source else ("value", "prediction", "error", *kept))]


def _inbox(numbers: Numbers, vertex: str, tick: int) -> tuple[dict[Key, Line], list[Message]]:
    """Return the units of a vertex at a tick, and what arrived there."""
    graph = numbers.task.graph
    values = [edge for edge in graph.incoming[vertex] if graph.vertices[edge.pre].op.role != "parameter"]
    errors = [edge for edge in graph.outgoing[vertex] if graph.carries_errors(edge)]
    keys = [("value message", edge.name) for edge in values] + [("error message", edge.name) for edge in errors]
    found = numbers.at(tick, [*_units(numbers.task, vertex), *keys])
    ends = [(kind, edge.name) for kind, edges in (("value", values), ("error", errors)) for edge in edges]
    if crossing := [(f"{kind} stamp", name) for kind, name in ends if (name, kind) in crossings(graph)]:
        found |= numbers.at(tick, crossing)

    def message(edge: Edge, kind: str) -> Message:
        value = kind == "value"
        delay, sender = (edge.value_delay, edge.pre) if value else (edge.error_delay, edge.post)
        contents = found[f"{kind} message", edge.name]
        stamps = found.get((f"{kind} stamp", edge.name))
        sent = tick - delay if stamps is None or stamps.numbers is None else int(stamps.numbers.max(initial=-1))
        return Message(edge.name, kind, sender, edge.slot, sent, tick, contents)

    return found, [message(edge, "value") for edge in values] + [message(edge, "error") for edge in errors]


def _error_lines(task: Task, vertex: str, now: Mapping[Key, Line], inbox: Iterable[Message]) -> list[Line]:
    """Return prediction, error, -Pi eps and the sum of the errors received."""
    prediction, error = now["prediction", vertex], now["error", vertex]
    precision = np.asarray(precision_of(task.graph, vertex, task.rule), float)
    own = None if error.numbers is None else np.asarray(-precision * error.numbers)
    source = "values that arrived" if task.rule.moving else "feedforward values: fixed at tick 0"
    received = [message.contents.numbers for message in inbox if message.kind == "error"]
    total = _sum(np.zeros((task.batch, *task.graph.vertices[vertex].shape)), *received)
    return [
        Line("prediction", prediction.numbers, prediction.origin, f"mu, from the {source}"),
        Line("error", error.numbers, error.origin, "eps = x - mu"),
        Line("-Pi eps", own, FROM, f"precision {precision.item():g}" if precision.ndim == 0 else "precision by unit"),
        *(replace(line, note="lambda") for line in (now.get(("multiplier", vertex)),) if line is not None),
        Line("received", total, FROM, f"sum of {len(received)} errors"),
    ]


def _change(
    task: Task, vertex: str, role: str, lines: Iterable[Line], now: Mapping[Key, Line], after: Mapping[Key, Line]
) -> Line:
    """Return by how much the value moves, and why."""
    known, before = {line.name: line.numbers for line in lines}, now["value", vertex].numbers
    if role in ("source", "clamped"):
        zero = np.zeros((task.batch, *task.graph.vertices[vertex].shape))
        return Line("change", zero, FROM, "held at the data" if role == "source" else "held at the target")
    if role == "frozen":
        change = _sum(sweep(task)[vertex].mu[0], _minus(before))
        return Line("change", change, AGAIN, "held at its feedforward value: it became NaN or infinite after it fired")
    if role == "output":
        change = _sum(after["prediction", vertex].numbers, after["error", vertex].numbers, _minus(before))
        return Line("change", change, AGAIN, "follows its prediction: x = mu + eps, with eps = -dL/dmu of its loss")
    gamma, rule = task.step_sizes.get(vertex, task.rule.step_size), task.rule
    if rule.keeps_multipliers and known["-Pi eps"] is not None:
        own, said = _sum(rule.rho * known["-Pi eps"], _minus(known["multiplier"])), f"-lambda - {rule.rho:g} Pi eps"
    else:
        own, said = known["-Pi eps"], "-Pi eps"
    both = _sum(own, known["received"])
    return Line("change", None if both is None else gamma * both, FROM, f"{gamma:g} ({said} + received)")


def _sum(*parts: np.ndarray | None) -> np.ndarray | None:
    """Return the sum of arrays; None where one is not known."""
    total: np.ndarray | None = parts[0]
    for part in parts[1:]:
        total = None if total is None or part is None else total + part
    return total


def _minus(numbers: np.ndarray | None) -> np.ndarray | None:
    return None if numbers is None else -numbers
