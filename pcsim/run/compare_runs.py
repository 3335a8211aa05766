"""Where two runs first differ, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pcsim.errors import nearest, wrong
from pcsim.run.result import Run, open_run
from pcsim.trace.compare import Asked, Difference
from pcsim.trace.compare import compare as compare_traces
from pcsim.trace.queries import parse_ticks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_SHOWN = 5


@dataclass(frozen=True, repr=False)
class Comparison:
    """How two runs differ.

    Attributes
    ----------
    rows : one for each quantity and name that either run recorded
    runs : {what: (of the first, of the second)}: rule, step size, ticks, stop reason
    tolerance : numbers are equal where their absolute or their relative difference is at most this
    """

    rows: tuple[Difference, ...]
    runs: Mapping[str, tuple[Any, Any]]
    tolerance: float = 0.0

    @property
    def both(self) -> tuple[Difference, ...]:
        """The rows that could be compared, as both runs recorded them in one shape."""
        return tuple(row for row in self.rows if row.absolute is not None)

    @property
    def different(self) -> tuple[Difference, ...]:
        """The rows that differ by more than the tolerance."""
        return tuple(row for row in self.both if not row.equal)

    @property
    def equal(self) -> bool:
        """Whether something could be compared, and all of it is equal within the tolerance."""
        return bool(self.both) and not self.different

    @property
    def first(self) -> Difference | None:
        """The row that differs at the earliest tick; what is known only after the run comes last."""
        return min(self.different, key=lambda row: (row.tick is None, row.tick or 0), default=None)

    @property
    def largest(self) -> tuple[Difference, ...]:
        """The rows that differ, largest absolute difference first."""
        return tuple(sorted(self.different, key=lambda row: -(row.absolute or 0.0)))

    @property
    def verdict(self) -> str:
        """In a line, whether the runs are equal."""
        if not self.both:
            return "nothing was recorded by both"
        if self.equal:
            within = f", within {self.tolerance:g}" if self.tolerance else ""
            return f"equal in everything that both recorded{within}"
        ticks = [row.tick for row in self.different if row.tick is not None]
        since = f", first at tick {min(ticks)}" if ticks else ""
        return f"different in {len(self.different)} of {len(self.both)} series that both recorded{since}"

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return {
            "verdict": self.verdict,
            "equal": self.equal,
            "tolerance": self.tolerance,
            "first": None if self.first is None else self.first.as_dict(),
            "runs": {key: list(pair) for key, pair in self.runs.items()},
            "rows": [row.as_dict() for row in self.rows],
        }

    def __repr__(self) -> str:
        lines = [f"{row.title}: {row.absolute:.4g} apart, since tick {row.tick}" for row in self.largest[:MOST_SHOWN]]
        more = [f"... {len(self.different) - MOST_SHOWN} more"] if len(self.different) > MOST_SHOWN else []
        return "\n  ".join([f"Comparison({self.verdict})", *(line[:200] for line in lines), *more])


def compare(
    first: Run | str | Path,
    second: Run | str | Path,
    *,
    tick: int | str | None = None,
    vertex: str | None = None,
    edge: str | None = None,
    tolerance: float = 0.0,
) -> Comparison:
    """Compare what two runs recorded and learnt, tick by tick; what only one of them holds is told.

    Parameters
    ----------
    first, second : runs, or their folders
    tick : a tick, or a range of them as a text: ``3:9``; default: all that both recorded, and what was learnt
    vertex : only what this vertex or parameter held
    edge : only what crossed this edge: ``a->b``
    tolerance : numbers are equal where their absolute or relative difference is at most this; default: bit for bit

    Raises
    ------
    InputError
        If a folder holds no run, or neither run recorded what is asked for.
    """
    if not 0 <= tolerance < float("inf"):
        raise wrong("tolerance", f"expected a number, at least 0, got {tolerance!r}")
    runs = [run if isinstance(run, Run) else open_run(run) for run in (first, second)]
    asked = Asked(None if tick is None else parse_ticks(tick), tolerance)
    rows = compare_traces(runs[0].trace, runs[1].trace, asked)
    keys = ("rule", "step_size", "ticks", "stop_reason")
    heads = {key: (runs[0].summary.get(key), runs[1].summary.get(key)) for key in keys}
    return Comparison(tuple(_of(_of(rows, "vertex", vertex), "edge", edge)), heads, tolerance)


def _of(rows: list[Difference], what: str, name: str | None) -> list[Difference]:
    """Return the rows of one vertex or edge."""
    if name is None:
        return rows
    found = [row for row in rows if row.name == name]
    if not found:
        known = list(dict.fromkeys(row.name for row in rows if row.name is not None))
        raise wrong(what, f"neither run recorded anything of {name!r}" + nearest(name, known))
    return found
