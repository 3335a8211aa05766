"""Who executes a program: the table of engines, and what ``auto`` means."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING

from pcsim.engines.base import Engine, Session, Task
from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.rules import DYNAMICS

if TYPE_CHECKING:
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule

__all__ = ["ENGINES", "Engine", "EngineRow", "Session", "Task", "best_engine", "fastest", "open_engine"]


@dataclass(frozen=True)
class EngineRow:
    """One engine: where it lives and what it is for; the module is imported when it is used."""

    name: str
    module: str
    summary: str
    parallel: bool = False
    """Whether one run takes all cores, or a device."""
    sweeps_back: bool = False
    """Whether a whole run of which only the updates are wanted holds no messages under way."""
    dynamics: tuple[str, ...] = ("values",)
    """What its vertices can keep, of ``pcsim.rules.DYNAMICS``."""

    def refusal(self, rule: Rule) -> str:
        """Return why the engine cannot run a rule; empty if it can."""
        if rule.dynamics in self.dynamics:
            return ""
        able = [row.name for row in ENGINES.values() if rule.dynamics in row.dynamics]
        others = f"take {' or '.join(able)}, or auto" if able else "leave it out, or say auto"
        kept = DYNAMICS[rule.dynamics]
        return f"engine {self.name!r} cannot run rule {rule.name!r}, whose vertices keep {kept}; {others}"


ENGINES = {
    row.name: row
    for row in (
        EngineRow(
            "actors",
            "pcsim.engines.actors",
            "one object per vertex with an inbox: slow, obvious, the oracle",
            dynamics=("values", "multipliers"),
        ),
        EngineRow(
            "numpy",
            "pcsim.engines.array.session",
            "all vertices of a kind in one array operation",
            dynamics=("values", "multipliers"),
        ),
        EngineRow(
            "cupy",
            "pcsim.engines.array.gpu",
            "the numpy engine's array operations on a CUDA device",
            parallel=True,
            dynamics=("values", "multipliers"),
        ),
        EngineRow(
            "numba",
            "pcsim.engines.jit.session",
            "compiled kernels on all cores, many ticks in one call",
            parallel=True,
            sweeps_back=True,
        ),
    )
}

WORTH_COMPILING = 8e9
"""Nanoseconds, about, that a run takes on NumPy, from which compiled kernels pay: to load them takes one second, and to
compile them, once for an installation, a dozen: with nothing compiled yet, README's sweep took 21 s with 4e9."""


def fastest() -> str:
    """Return the fastest engine for large runs on this machine's cores that is installed."""
    return "numba" if find_spec("numba") else "numpy"


def best_engine(graph: Graph, batch: int, ticks: int, rule: Rule | None = None) -> str:
    """Return what ``auto`` means for a run: compiled kernels where they know its rule and it is long enough."""
    able = (rule is None or not ENGINES[fastest()].refusal(rule)) and not graph.has_channels
    return fastest() if able and nanoseconds(graph, batch, ticks) > WORTH_COMPILING else "numpy"


def nanoseconds(graph: Graph, batch: int, ticks: int) -> float:
    """Return about how long a run takes on NumPy."""
    active = [graph.vertices[name] for name in graph.active]
    units = sum(prod(vertex.shape) for vertex in active)
    products = sum(vertex.op.cost(vertex.call).multiply_adds for vertex in active)
    return ticks * (1000.0 * len(active) + batch * (10.0 * units + products / 16))


def open_engine(name: str) -> Engine:
    """Return an engine by name; raises InputError for one unknown or without what it needs.

    The engine refuses a task whose rule it cannot run.
    """
    name = "numpy" if name == "auto" else name
    if name not in ENGINES:
        raise wrong("engine", f"unknown engine {name!r}" + nearest(name, ENGINES, "pcsim list engines"))
    try:
        start: Engine = import_module(ENGINES[name].module).start
    except ImportError as missing:
        if not str(missing).startswith(f"engine {name!r} needs"):
            raise
        raise InputError([Problem((), str(missing))]) from missing

    def engine(task: Task) -> Session:
        if refusal := ENGINES[name].refusal(task.rule):
            raise wrong("engine", refusal)
        return start(task)

    return engine
