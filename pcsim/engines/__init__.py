"""Who executes a program: ``actors`` is the oracle, ``numpy`` the vectorised engine."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from pcsim.engines.base import Engine, Session, Task
from pcsim.errors import nearest, wrong

__all__ = ["ENGINES", "Engine", "EngineRow", "Session", "Task", "open_engine"]


@dataclass(frozen=True)
class EngineRow:
    """One engine: where it lives and what it is for; the module is imported when it is used."""

    name: str
    module: str
    summary: str


ENGINES = {
    row.name: row
    for row in (
        EngineRow("actors", "pcsim.engines.actors", "one object per vertex with an inbox: slow, obvious, the oracle"),
        EngineRow("numpy", "pcsim.engines.array", "all vertices of a kind in one array operation"),
        EngineRow("numba", "pcsim.engines.jit.session", "compiled kernels on all cores, many ticks in one call"),
    )
}

AUTO = "numpy"
"""The engine that ``auto`` means."""


def open_engine(name: str) -> Engine:
    """Return an engine by name (``auto`` chooses); raises InputError for an unknown one."""
    name = AUTO if name == "auto" else name
    if name not in ENGINES:
        raise wrong("engine", f"unknown engine {name!r}" + nearest(name, ENGINES, "pcsim list engines"))
    engine: Engine = import_module(ENGINES[name].module).start
    return engine
