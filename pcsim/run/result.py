"""A finished (or interrupted) run: its summary, its trace, what it learnt; saved to and opened from a folder."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, RunError, clipped, wrong
from pcsim.run.checkpoint import CHECKPOINT, load_checkpoint
from pcsim.trace.entries import QUANTITIES, numbers, open_trace, series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import xarray as xr

    from pcsim.run.checkpoint import Checkpoint
    from pcsim.run.ledger import Ledger
    from pcsim.run.numbers import Numbers
    from pcsim.run.outcome import Outcome
    from pcsim.trace.memory_trace import MemoryTrace

TRACE = "trace.zarr"
MANIFEST = "manifest.json"
SWEEP = "sweep.json"
"""What stands in the folder of a sweep where a run has its manifest."""


@dataclass(frozen=True)
class Run:
    """What came of a simulation.

    Attributes
    ----------
    manifest : scenario, digest, versions, seed, engine, status, stop reason, seconds; written out when first read
    summary : ticks, stop reason, warnings, and every measure by name; plain data
    store : where the trace is: a folder, or arrays in memory
    """

    _manifest: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(compare=False)
    store: Path | MemoryTrace
    outcome: Outcome | None = field(default=None, repr=False, compare=False)
    _checkpoint: Checkpoint | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy keep: of a run on disk its folder and manifest, of one in memory all of it."""
        kept = {row.name: getattr(self, row.name) for row in fields(self)} | {"_manifest": self.manifest}
        return kept | ({"outcome": None, "_checkpoint": None} if isinstance(self.store, Path) else {})

    def __repr__(self) -> str:
        ended = clipped(f"{self.manifest['status']}: {self.summary['stop_reason']}")
        return f"Run({clipped(self.manifest['title'])!r}, {self.summary['ticks']} ticks, {ended})"

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What was run, by what, how it ended, and its summary."""
        return self._manifest() if callable(self._manifest) else self._manifest

    @property
    def summary(self) -> dict[str, Any]:
        """Ticks, stop reason, warnings and every measure, as plain JSON-able data."""
        return dict(self.manifest["summary"])

    @cached_property
    def trace(self) -> xr.DataTree:
        """The recorded series as an xarray DataTree, stacked by shape."""
        return open_trace(self.store)

    def series(self, quantity: str, name: str | None = None, kind: str | None = None) -> xr.DataArray:
        """Return one recorded series, dims (tick, batch, *axes).

        Parameters
        ----------
        quantity : value, prediction, error, message, norm, divergence, energy or update
        name : the vertex, edge (``a->b``, ``a->b#1``) or parameter; none for the energy
        kind : for messages, ``value`` or ``error``

        Raises
        ------
        InputError
            If it was not recorded; the message says what was, and how to record it where that can be.
        """
        try:
            return series(self.trace, quantity, name, kind)
        except InputError:
            if name is not None and quantity in QUANTITIES:
                self._check_recordable(str(name), quantity, kind)
            raise

    def _check_recordable(self, name: str, quantity: str, kind: str | None) -> None:
        from pcsim.run.provenance import scenario_of  # reads the scenario again, which to open a run does not
        from pcsim.trace.recordable import check_recordable

        try:
            graph = scenario_of(self).levelled
        except InputError:  # its files are gone
            return
        check_recordable(graph, name, quantity, kind)

    def ledger(self, vertex: str, tick: int) -> Ledger:
        """Return what a vertex did in a tick: what arrived, prediction, error, the change, and that they add up.

        What was not recorded is computed again from the scenario.

        Raises
        ------
        InputError
            If the graph has no such vertex, or the run no such tick.
        """
        from pcsim.run.ledger import ledger_of  # needs engines, which to open a run does not

        return ledger_of(self.numbers, vertex, tick)

    @cached_property
    def numbers(self) -> Numbers:
        """Every number of the run, tick by tick: recorded ones, and for the rest the run computed again."""
        from pcsim.run.numbers import Numbers

        return Numbers(self)

    @cached_property
    def updates(self) -> dict[str, np.ndarray]:
        """What each parameter learnt: {name: (*shape)}, a descent direction, before any learning rate."""
        return self._static("learnt") if self.outcome is None else self.outcome.updates

    def _static(self, group: str) -> dict[str, np.ndarray]:
        """Return {parameter: (*shape)} of what is kept once, stacked by shape."""
        found = {}
        for node in self.trace.children[group].children.values() if group in self.trace.children else ():
            array = node.dataset[group]
            for name, values in zip(array.coords["parameter"].values, numbers(array), strict=True):
                found[str(name)] = values
        return found

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The free values after the last tick: {vertex: (batch, *shape)}; start another run from them."""
        if self.outcome is None:
            raise wrong("state", "the state after a run is not kept in its folder; record 'value' to have the last one")
        return self.outcome.state

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """The values of the parameters after the run: {name: (*shape)}; updates learnt at the end are not applied."""
        return self._static("parameters") if self.outcome is None else self.outcome.parameters

    @property
    def buffers(self) -> dict[str, np.ndarray]:
        """What ops keep from batch to batch, after the run's: {``vertex.buffer``: (*shape)}, such as running means.

        With ``parameters`` they are what another run goes on from: ``{**run.parameters, **run.buffers}``.
        """
        return self._static("buffers") if self.outcome is None else self.outcome.buffers

    @property
    def given_buffers(self) -> dict[str, np.ndarray]:
        """The buffers that the run was given to begin with."""
        if self.outcome is None or self.outcome.task is None:
            return self._static("given_buffers")
        return dict(self.outcome.task.buffers)

    def checkpoint(self) -> Checkpoint:
        """Return what the run can go on from.

        Raises InputError where it kept none: a run keeps one where it is paused or interrupted, and, in its folder,
        every so many ticks where that was asked for.
        """
        if self._checkpoint is not None:
            return self._checkpoint
        if isinstance(self.store, Path) and (path := self.store.parent / CHECKPOINT).exists():
            return load_checkpoint(path)
        done = "it is done, and " if self.manifest["status"] == "done" else ""
        hint = "run it with until= or checkpoint= (--until, --checkpoint)"
        raise wrong("resume", f"this run cannot go on: {done}it kept no checkpoint; {hint}")

    def save(self, folder: str | Path) -> Path:
        """Write the run to a new folder: the manifest, the trace, and the checkpoint where there is one.

        Raises InputError where the folder is not new, RunError where it cannot be written.
        """
        target = new_folder(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            if isinstance(self.store, Path):
                shutil.copytree(self.store, target / TRACE)
            else:
                self.store.write(target / TRACE)
            if self._checkpoint is not None:
                self._checkpoint.save(target / CHECKPOINT)
            write_manifest(target, self.manifest)
        except OSError as error:  # shutil's own holds a list, and no reason
            message = f"cannot write the run to {target}: {error.strerror or 'a file could not be copied'}"
            raise RunError(message) from error
        return target


def new_folder(folder: str | Path) -> Path:
    """Return the path of a folder that is to be written; raises InputError where something is in the way."""
    target = Path(folder)
    try:
        taken = any(target.iterdir()) if target.exists() else False
    except NotADirectoryError:
        raise wrong("out", f"{target} is a file; name a new folder") from None
    if taken:
        raise wrong("out", f"{target} is not empty; name a new folder")
    return target


@contextmanager
def folder_of(out: str | Path | None, resume: Any) -> Iterator[Path | None]:
    """Give the folder that a run is written to: a new one, or, where a run goes on in its own folder, one beside it.

    What is written beside it takes the folder's place in the end; until then the folder is as it was.
    """
    target = _own_folder(out, resume)
    if target is None:
        yield None if out is None else new_folder(out)
        return
    beside, _ = _beside(target)
    try:
        yield beside
    except BaseException:
        if not (beside / CHECKPOINT).exists():
            shutil.rmtree(beside, ignore_errors=True)
        raise
    _swap(target)


def settle(out: str | Path | None, resume: Any) -> None:
    """Before a run goes on in its own folder: let what it wrote beside it before it was killed take its place.

    A run that was killed while it went on goes on from its last checkpoint, not from that of the run before.
    """
    if (target := _own_folder(out, resume)) is not None:
        _finish_swap(target)
        beside, before = _beside(target)
        if (beside / CHECKPOINT).exists():
            _swap(target)
        for left in (beside, before):
            shutil.rmtree(left, ignore_errors=True)


def _own_folder(out: str | Path | None, resume: Any) -> Path | None:
    """Return the folder of a run that goes on in it; None where it is a new one, or none."""
    own = out is not None and isinstance(resume, str | Path) and Path(out).resolve() == Path(resume).resolve()
    return Path(out or "").resolve() if own else None


def _beside(target: Path) -> tuple[Path, Path]:
    """Return where a run that goes on in a folder is written, and what the folder is called while it is replaced."""
    return target.with_name(f".{target.name}.resuming"), target.with_name(f".{target.name}.before")


def _swap(target: Path) -> None:
    beside, before = _beside(target)
    shutil.rmtree(before, ignore_errors=True)
    target.rename(before)
    beside.rename(target)
    shutil.rmtree(before)


def _finish_swap(target: Path) -> None:
    """Put a folder back whose replacing was cut short."""
    beside, before = _beside(target)
    if not target.exists() and before.exists():
        (beside if beside.exists() else before).rename(target)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest so that a reader finds the old one or the new one, never half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, manifest)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of it; raises OSError."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=1, default=_plain, allow_nan=False) + "\n")
    part.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


def open_run(folder: str | Path) -> Run:
    """Open the folder of a run; raises InputError if it is none, or its manifest is damaged or of another format."""
    path = Path(folder)
    _finish_swap(path.resolve())
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except OSError as error:
        raise wrong((), f"{path} is not the folder of a run: {MANIFEST}: {error.strerror}{_made_by(path)}") from None
    except (ValueError, RecursionError) as error:
        raise wrong((), f"{path} is not the folder of a run: {MANIFEST}: {str(error)[:80]}{_AGAIN}") from None
    kind = manifest.get("pcsim") if isinstance(manifest, dict) else None
    if kind != FORMAT:
        raise wrong((), f"{path / MANIFEST} says pcsim: {str(kind)[:40]!r}, expected {FORMAT!r}{_AGAIN}")
    if missing := [*_missing(manifest, _PARTS), *_missing(manifest.get("summary"), _SUMMARY, "summary.")]:
        raise wrong((), f"{path / MANIFEST} says nothing, or something else, under {', '.join(missing[:3])}{_AGAIN}")
    return Run(manifest, path / TRACE)


FORMAT = "run/1"

_PARTS = {"title": str, "status": str, "engine": str, "scenario": dict, "summary": dict}
_SUMMARY = {
    "title": str, "rule": str, "step_size": int | float, "ticks": int, "horizon": int, "levels": int,
    "feedforward_ticks": int, "stop_reason": str,
}  # fmt: skip
"""What every manifest says, and in its summary."""

_AGAIN = "; it is damaged, or of another version of pcsim: open it with that one, or run its scenario again"


def _made_by(path: Path) -> str:
    """Return what makes the folder of a run, and where the runs of a sweep are."""
    if (path / SWEEP).exists():
        return f"; it is the folder of a sweep, whose runs, where it keeps them, are in {path / 'runs'}"
    return "; pcsim run FILE --out FOLDER makes one"


def _missing(data: Any, parts: Mapping[str, Any], prefix: str = "") -> list[str]:
    known = data if isinstance(data, dict) else {}
    return [prefix + key for key, kind in parts.items() if not isinstance(known.get(key), kind)]
