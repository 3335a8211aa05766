"""The seam between what to run and what runs it: a Task in, a Session that ticks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, Unpack, runtime_checkable

import numpy as np

from pcsim.engines.operands import admit_sources, buffer_shapes
from pcsim.engines.squares import squares_of
from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.graph.graph import number_format
from pcsim.graph.levels import uneven_edges
from pcsim.graph.precisions import with_precisions, wrong_precisions
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from pcsim.arrays import Shape
    from pcsim.engines.state import State
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule

Read = Callable[[], np.ndarray]
"""Returns what was asked for as of the last tick, stacked in the order of the names: (names, batch, *shape)."""


@dataclass(frozen=True, eq=False)
class Task:
    """Everything that a run needs, already checked: no engine reads a document.

    Attributes
    ----------
    parameters : {parameter name: (*shape)}
    inputs : {source vertex: (batch, *shape)}
    targets : {output vertex: (batch, *shape)}
    losses : {output vertex: name in LOSSES}; ``squared_error`` clamps the output to its target
    initial : {free vertex: (batch, *shape)}, values at tick 0 where they are not the feedforward ones; each vertex on a
        cycle has one, and its deviations are from it
    keep_values : keep values in flight so that they can be read as messages
    exact_dynamics : simulate every actor at every tick; else ``advance`` may leave out what can reach no update
    step_sizes : {free vertex: gamma} where it is not the rule's
    seed, batch_number : name the streams of what ops draw for this batch (dropout)
    buffers : {``vertex.buffer``: (*shape)}, what ops keep from batch to batch, where it is not what they start with
    draws : {vertex: {name: (batch, *shape)}}, what ops have drawn, where it is not named by seed and batch number
    """

    graph: Graph
    rule: Rule
    ticks: int
    batch: int
    dtype: np.dtype[Any]
    parameters: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    losses: Mapping[str, str]
    initial: Mapping[str, np.ndarray] = field(default_factory=dict)
    keep_values: bool = False
    exact_dynamics: bool = True
    step_sizes: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    batch_number: int = 0
    buffers: Mapping[str, np.ndarray] = field(default_factory=dict)
    draws: Mapping[str, Mapping[str, np.ndarray]] | None = None


T = TypeVar("T")


def kept_by_task(function: Callable[..., T]) -> Callable[..., T]:
    """Make a function of a task (and of plain arguments) work its result out once: it stays with the task."""
    place = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def once(task: Task, *arguments: Any) -> T:
        results, key = vars(task), f"{place}{arguments!r}"
        if key not in results:
            results[key] = function(task, *arguments)
        found: T = results[key]
        return found

    return once


class Given(TypedDict, total=False):
    """What a run may begin again with: data of the same shapes, and the number of the batch, which names its draws."""

    inputs: Mapping[str, np.ndarray] | None
    targets: Mapping[str, np.ndarray] | None
    parameters: Mapping[str, np.ndarray] | None
    buffers: Mapping[str, np.ndarray] | None
    initial: Mapping[str, np.ndarray] | None
    precisions: Mapping[str, np.ndarray] | None
    """{vertex whose precision may change: () or (*shape)}: see ``pcsim.graph.precisions``"""
    batch_number: int | None
    draws: Mapping[str, Mapping[str, np.ndarray]] | None


@runtime_checkable
class Descends(Protocol):
    """A session that can move parameters by code of its own, with the bits that NumPy gives."""

    def descend(
        self, formula: Callable[..., Any], moves: Sequence[Sequence[np.ndarray]], constants: Sequence[float]
    ) -> bool:
        """Move parameters in place by a formula of ``pcsim.optimisers``; return whether it could.

        Parameters
        ----------
        moves : of each parameter its array, what was learnt of it, and what the optimiser keeps of it
        constants : what the formula takes beside arrays
        """


class Session(Protocol):
    """A run in progress. One tick is ``predict``, ``send``, ``deliver``, ``learn``, ``move``, in this order.

    Correcting is in three parts: ``send`` computes the error messages, ``deliver`` takes those due and sums them, and
    ``move`` moves the values to the next tick. Readers are valid from ``deliver`` to ``move``.
    """

    @property
    def task(self) -> Task:
        """What is run: the data and parameters are those of the last ``restart``."""

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors; raises RunError where one becomes NaN or infinite."""

    def send(self, tick: int, /) -> None:
        """Compute the error messages of this tick."""

    def deliver(self, tick: int) -> None:
        """Take the error messages due and sum them; raises RunError where one becomes NaN or infinite."""

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""

    def move(self) -> None:
        """Move the free values to the next tick."""

    def compare_with(self, references: Mapping[str, np.ndarray] | None) -> None:
        """Say what errors are compared with from now on: {active vertex: (batch, *shape)}; None: with nothing."""

    def advance(
        self, first: int, end: int, *, last: bool, squares: np.ndarray | None = None, apart: np.ndarray | None = None
    ) -> None:
        """Run ticks ``first`` to ``end - 1`` in one call: the phases of each, with nothing to be read in between.

        Parameters
        ----------
        last : ``end - 1`` is the last tick of the run: rules that learn at the end learn in it
        squares : (end - first, active vertices), float64, filled with the squared L2 norm of each vertex's error (over
            batch and units) at each tick, vertices in the order of ``layout``
        apart : likewise, of each vertex's error less what it is compared with

        Raises RunError where a value becomes NaN or infinite. Where ``task.exact_dynamics`` is false and the whole run
        is one call, vertices that have fired are not simulated any further (``engines/updates_only.py``); the updates
        are the same.
        """

    def restart(self, **given: Unpack[Given]) -> None:
        """Begin again at tick 0, with other data or parameters of the same shapes; what is not given stays.

        Parameters that learnt within the run begin again from the task's. Nothing is lowered or laid out anew: arrays
        that were read before are written over. Raises InputError for a name or a shape that does not fit.
        """

    def snapshot(self) -> State:
        """Return the state before the next tick, between ``move`` (or ``advance``) and ``predict``."""

    def load(self, state: State, /) -> None:
        """Go on from a state of this task, in place of the session's own.

        The state may be from another engine; from the same engine the run goes on as the same run, bit for bit.
        Raises InputError where it is of another graph, batch or number format.
        """

    def buffers(self) -> dict[str, np.ndarray]:
        """Return {``vertex.buffer``: (*shape)}: what ops keep from batch to batch, as this batch leaves it."""

    def executed(self) -> dict[str, str]:
        """Return {active vertex: the engine that works it out}, with the reason where it is not the session's own."""

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices in groups of one shape that a reader returns without a copy."""

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices (or edges, for messages) of one shape."""

    def updates(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return {parameter: the descent direction learnt so far, before any learning rate}.

        Without ``copy`` they may be the session's own, which last until it goes on or begins again.
        """

    def parameters(self, *, copy: bool = True) -> dict[str, np.ndarray]:
        """Return {parameter: its value now}.

        Without ``copy`` they may be the session's own: whoever writes to them gives them to ``restart``.
        """

    def fired(self) -> dict[str, int]:
        """Return {vertex: tick at which the parameters it uses took its error}, where it has happened."""

    def frozen(self) -> dict[str, int]:
        """Return {vertex: tick}: vertices that were frozen when a value became NaN or infinite after they had fired.

        Under a rule that fires once, at step size 1, a vertex that has fired may diverge. On a levelled graph
        nothing that is still to be learnt depends on it any more, so it is frozen at its feedforward value
        instead of ending the run.
        """


def may_freeze(task: Task) -> bool:
    """Return whether a vertex that has fired may be frozen: nothing that is still to be learnt depends on it.

    So it is where a parameter learns once, behind the front of the first errors, on a levelled graph, from
    the feedforward state, and messages are simply delivered.
    """
    once = task.rule.moving and task.rule.fires.at_front and not task.rule.fires.applies
    return once and not task.initial and not uneven_edges(task.graph) and not task.graph.has_channels


def clamped(task: Task, name: str) -> bool:
    """Return whether the value of an output is its target; another loss only sets its error."""
    return name not in task.losses or LOSSES[task.losses[name]].clamps


def gammas(task: Task, names: Sequence[str]) -> np.ndarray:
    """Return the step size of each of these free vertices, float64."""
    return np.array([task.step_sizes.get(name, task.rule.step_size) for name in names], np.float64)


def notes(
    session: Session,
    first: int,
    squares: np.ndarray | None,
    apart: np.ndarray | None,
    references: Mapping[str, np.ndarray],
) -> Callable[[int], None]:
    """Return a function that notes the squared norms of a tick, as ``advance`` does, by reading the errors."""
    groups, start = [], 0
    for names in session.layout():
        wanted = np.stack([references[name] for name in names]) if apart is not None else None
        groups.append((slice(start, start + len(names)), session.reader("error", names), wanted))
        start += len(names)

    def note(tick: int) -> None:
        for rows, read, wanted in groups:
            error = read()
            if squares is not None:
                squares[tick - first, rows] = squares_of(np, error)
            if apart is not None:
                apart[tick - first, rows] = squares_of(np, error - wanted)

    return note


def tick_by_tick(
    session: Session, first: int, end: int, *, last: bool, measure: Callable[[int], None] | None = None
) -> None:
    """Run ticks ``first`` to ``end - 1`` one after the other; ``measure`` is called in each, before ``learn``."""
    for tick in range(first, end):
        session.predict(tick)
        session.send(tick)
        session.deliver(tick)
        if measure is not None:
            measure(tick)
        session.learn(tick, last=last and tick == end - 1)
        session.move()


_FIELDS = tuple(row.name for row in fields(Task))


def with_changes(task: Task, changes: Mapping[str, Any]) -> Task:
    """Return what ``dataclasses.replace`` does, which takes longer than a small batch's bookkeeping."""
    new = object.__new__(Task)
    own = vars(task)
    vars(new).update({name: own[name] for name in _FIELDS})
    vars(new).update(changes)
    return new


def refuse_precisions(given: Given, why: str) -> None:
    """Raise InputError where a session is given other precisions and cannot begin again with them."""
    if given.get("precisions"):
        raise wrong("precisions", f"cannot change from run to run here: {why}")


def begun_again(task: Task, **given: Unpack[Given]) -> Task:
    """Return the task with other data or parameters; raises InputError for names, shapes or numbers that do not fit."""
    if precisions := given.get("precisions"):
        if problems := list(wrong_precisions(task.graph, precisions)):
            raise InputError(problems)
        task = with_changes(task, {"graph": with_precisions(task.graph, precisions)})
    named: dict[str, Any] = {
        key: arrays
        for key in ("inputs", "targets", "parameters", "buffers", "initial")
        if (arrays := given.get(key)) is not None
    }
    if all(_fit(arrays, getattr(task, key)) for key, arrays in named.items()):
        return _changed(task, {key: {**getattr(task, key), **arrays} for key, arrays in named.items()}, given)
    known = {key: _known(task, key) for key in named}
    if problems := [
        problem for key, arrays in named.items() for problem in _misfits(key, arrays, known[key], getattr(task, key))
    ]:
        raise InputError(problems)
    changed: dict[str, Any] = {
        key: {**getattr(task, key), **{name: np.asarray(array, known[key][name][1]) for name, array in arrays.items()}}
        for key, arrays in named.items()
    }
    return _changed(task, changed, given)


def _fit(arrays: Any, held: Mapping[str, np.ndarray]) -> bool:
    """Return whether arrays are at once seen to fit: what a task holds, or finite ones of the same shape and format."""
    return isinstance(arrays, Mapping) and all(
        type(array) is np.ndarray
        and (now := held.get(name)) is not None
        and (array is now or ((array.shape, array.dtype) == (now.shape, now.dtype) and all_finite(array)))
        for name, array in arrays.items()
    )


def _changed(task: Task, changed: dict[str, Any], given: Given) -> Task:
    if (number := given.get("batch_number")) is not None:
        changed |= {"batch_number": number, "draws": given.get("draws")}
    if not changed:
        return task
    new = with_changes(task, changed)
    if "inputs" in changed:
        admit_sources(new)
    return new


def data_of(task: Task) -> Given:
    """Return what another session of the same graph begins again with to run this task."""
    return {
        "inputs": task.inputs,
        "targets": task.targets,
        "parameters": task.parameters,
        "buffers": task.buffers,
        "initial": task.initial,
        "batch_number": task.batch_number,
        "draws": task.draws,
    }


def taken_up(task: Task, state: State) -> Task:
    """Return the task with the draws of the batch that a state is from, and on cycles the values that it began with."""
    if state.starts:
        task = replace(task, initial={**task.initial, **state.starts})
    if task.draws is not None or (state.seed, state.batch_number) == (task.seed, task.batch_number):
        return task
    return replace(task, seed=state.seed, batch_number=state.batch_number)


Known = Mapping[str, tuple["Shape", Any]]
"""Shape and number format of each array that a task has."""


def _known(task: Task, key: str) -> Known:
    if key == "buffers":
        return {name: (shape, task.dtype) for name, shape in buffer_shapes(task.graph).items()}
    vertices = task.graph.vertices
    whole = {name for name in task.inputs if key == "inputs" and number_format(vertices[name]) == "whole"}
    return {
        name: (array.shape, np.dtype(np.int64) if name in whole else task.dtype)
        for name, array in getattr(task, key).items()
    }


def _misfits(key: str, arrays: Any, known: Known, held: Mapping[str, np.ndarray]) -> list[Problem]:
    """Return what is wrong with data that a run should begin again with, but for what the task holds already."""
    if not isinstance(arrays, Mapping):
        return [Problem((key,), f"expected {{name: array}}, got a {type(arrays).__name__}")]
    return [
        Problem((key, name), "is not part of the task" + nearest(name, known)) for name in arrays if name not in known
    ] + [
        Problem((key, name), fault)
        for name, array in arrays.items()
        if name in known and array is not held.get(name) and (fault := misfit(array, *known[name]))
    ]


def all_finite(array: np.ndarray) -> bool:
    """Return whether all numbers are finite: the sum of their squares is, or they are looked at one by one."""
    if array.dtype.kind == "f" and array.flags.c_contiguous:
        flat = array.reshape(-1)
        with np.errstate(all="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return True
    return bool(np.isfinite(array).all())


def misfit(given: Any, shape: Shape, dtype: np.dtype[Any]) -> str:
    """Return why what was given cannot stand for an array of this shape and number format; empty if it can."""
    if type(given) is np.ndarray and (given.shape, given.dtype) == (shape, dtype) and all_finite(given):
        return ""
    if np.ma.is_masked(given):
        return "has masked values, which are no numbers; fill these places first: array.filled(0.0)"
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        return f"expected numbers of shape {list(shape)}, in lists of equal lengths"
    if array.dtype.kind not in "biuf":
        return f"expected numbers, got {array.dtype}"
    if dtype.kind == "i" and (array.dtype.kind == "f" and (array != np.floor(array)).any()):
        return "expected whole numbers"
    if array.shape != shape:
        return f"has shape {list(array.shape)}, expected {list(shape)}"
    with np.errstate(over="ignore"):
        if np.isfinite(array.astype(dtype, copy=False)).all():
            return ""
    return (
        f"holds numbers that are not finite in {dtype}" if np.isfinite(array).all() else "data must be finite numbers"
    )


Engine = Callable[[Task], Session]
