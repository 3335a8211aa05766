"""Keeps the manifest of a run true, whatever ends the run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError, RunError
from pcsim.graph.levels import levels
from pcsim.run.provenance import now, provenance
from pcsim.run.result import Run, write_manifest
from pcsim.trace.writer import TraceWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pcsim.graph.graph import Graph
    from pcsim.scenario.scenario import Scenario


ManifestMaker = Callable[[], dict[str, Any]]
"""Writes a manifest out when it is called first: its digests take longer than a small run."""


@dataclass
class ManifestKeeper:
    """What is known of a run so far: the ticks done, the trace, and the run once it has ended."""

    scenario: Scenario
    engine: str
    folder: Path | None
    clock: float = field(default_factory=time.perf_counter)
    writer: TraceWriter | None = None
    done: int = 0
    flushed: float = 0.0
    run: Run | None = None
    begun: bool = False
    began: str = field(default_factory=now)
    executed: Mapping[str, str] = field(default_factory=dict)
    """What worked out each vertex, once the run has ended."""
    before: Mapping[str, Any] | None = None
    """The manifest of the run that this one goes on from."""

    def begin(self) -> None:
        """Say in the run's folder, where it has one, that it is running."""
        self.begun = True
        if self.folder is not None:
            self.note("running", "not ended", 0, {})

    def note(self, status: str, reason: str, ticks: int, found: dict[str, Any]) -> ManifestMaker:
        """Write the manifest as things stand, where the run has a folder; return what makes it."""
        made = self._made(status, reason, ticks, found)
        self._keep(made)
        return made

    def _made(self, status: str, reason: str, ticks: int, found: dict[str, Any]) -> ManifestMaker:
        """Return what makes the manifest as things stand now, when it is first wanted."""
        ended = None if status == "running" else now()
        seconds = round(time.perf_counter() - self.clock, 3)
        known = replace(self, writer=None, run=None)  # what makes it must not hold the run that holds it
        return cache(partial(known._manifest, status, reason, ticks, found, ended, seconds))

    def _keep(self, made: ManifestMaker) -> None:
        try:
            if self.folder is not None:
                write_manifest(self.folder, made())
        except OSError as error:
            msg = f"cannot write the manifest in {self.folder}: {error.strerror or error}"
            raise RunError(msg) from error

    def _manifest(
        self, status: str, reason: str, ticks: int, found: dict[str, Any], ended: str | None, seconds: float
    ) -> dict[str, Any]:
        scenario, rule = self.scenario, self.scenario.rule
        summary = {
            "title": scenario.document.title,
            "rule": rule.name,
            "step_size": rule.step_size,
            "ticks": ticks,
            "horizon": scenario.ticks,
            **_sizes(scenario.levelled),
            "stop_reason": reason,
            "engine": self.engine,
            "executed": dict(Counter(self.executed.values())),
            **found,
        }
        return {
            "pcsim": "run/1",
            "title": scenario.document.title,
            "status": status,
            "engine": self.engine,
            "asked_for": scenario.document.engine,
            "executed": executed_by(self.executed),
            "seed": scenario.document.seed,
            "dtype": scenario.document.dtype,
            "digest": scenario.digest,
            "parameters_digest": scenario.parameters_digest,
            "data_digest": scenario.data_digest,
            **provenance(scenario),
            "began": self.began,
            "ended": ended,
            "resumed": earlier(self.before, ticks=self.before["summary"]["ticks"]) if self.before else [],
            "seconds": seconds,
            "summary": summary,
            "scenario": scenario.plain,
        }

    def never_begun(self, error: RunError) -> Run:
        """Return the run that never began, as nothing but the reason."""
        made = self._made("failed", str(error), 0, {"warnings": [str(error)]})
        return Run(made, TraceWriter(None, [], ticks=1).store)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what was recorded when a run fails or is ended at once, and say why."""
        try:
            yield
        except RunError as error:
            made = self._end("failed", str(error), [str(error)])
            if self.writer is not None:
                error.run = Run(made, self.writer.store)
            raise
        except KeyboardInterrupt:
            self._end("interrupted", f"ended at once, in tick {self.done}", [])
            raise
        except BaseException as error:
            if isinstance(error, InputError) and not self.begun:  # nothing was run, so nothing is kept
                raise
            self._end("failed", f"{type(error).__name__}: {error}", [])
            raise

    def _end(self, status: str, reason: str, said: list[str]) -> ManifestMaker:
        """Close the trace and note the end; what cannot be written any more stays as it is."""
        made = self._made(status, reason, self.done, {"warnings": said})
        with suppress(RunError):
            if self.writer is not None:
                self.writer.close()
        with suppress(RunError):
            self._keep(made)
        return made


ORIGIN = ("source", "command", "versions", "commit", "host", "began", "ended")
"""What a run that goes on keeps of the one before it."""


def earlier(before: Mapping[str, Any], **done: int) -> list[dict[str, Any]]:
    """Return the origin of each run (or sweep) that came before one that goes on, the first one first."""
    return [*before.get("resumed", ()), {**{key: before.get(key) for key in ORIGIN}, **done}]


def _sizes(graph: Graph) -> dict[str, Any]:
    """Return how deep a graph is; a cyclic one has neither levels nor a feedforward sweep, and says which cycle."""
    if graph.cyclic:
        return {"levels": None, "feedforward_ticks": None, "cycle": graph.a_cycle}
    return {"levels": levels(graph), "feedforward_ticks": max(graph.depths.values(), default=0)}


NAMED = 100
"""So many vertices of each kind of execution are named in a manifest."""


def executed_by(executed: Mapping[str, str]) -> dict[str, Any]:
    """Return {what worked vertices out, with its reason: {"vertices": how many, "names": the first of them}}."""
    found: dict[str, list[str]] = {}
    for name, how in executed.items():
        found.setdefault(how, []).append(name)
    return {how: {"vertices": len(names), "names": names[:NAMED]} for how, names in found.items()}
