"""The folder of a sweep: what was asked for, a row for each run as soon as it is known, and runs with their traces."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError, Problem, RunError, wrong
from pcsim.run.manifest import earlier
from pcsim.run.provenance import now, provenance
from pcsim.run.result import MANIFEST, SWEEP, write_json

try:
    import fcntl
except ImportError:  # not a system that has it
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pcsim.scenario.scenario import Scenario

Row = dict[str, Any]

ROWS = "sweep.jsonl"
FORMER = "sweep.before.jsonl"
"""Rows whose scenario, or whose files, have changed since: the sweep has others in their place."""

RUNS = "runs"

FORMAT = "sweep/1"

IN_EVERY_ROW = ("rule", "step_size", "horizon")
"""What every row has, also that of a run that failed."""


def key_of(coordinates: Row | None) -> str:
    """Return coordinates as a text that can be looked up."""
    return json.dumps(coordinates, sort_keys=True, default=str)


@dataclass(frozen=True)
class Line:
    """A row with its scenario's fingerprint and where its run lies on each axis of the sweep."""

    digest: str
    coordinates: Row | None
    row: Row

    @property
    def key(self) -> str:
        """The coordinates as a text that can be looked up."""
        return key_of(self.coordinates)

    @property
    def text(self) -> str:
        """The line of JSON."""
        data = {"digest": self.digest, "coordinates": self.coordinates, "row": self.row}
        return json.dumps(data, default=str, allow_nan=False) + "\n"


@dataclass(frozen=True)
class Cell:
    """A cell of the grid: its overrides, the fingerprint of its scenario, and its coordinates.

    ``traced`` says that its run is kept, with its trace.
    """

    overrides: Row
    digest: str
    coordinates: Row
    traced: bool = False

    @property
    def key(self) -> str:
        """The coordinates as a text that can be looked up."""
        return key_of(self.coordinates)


@dataclass
class SweepFolder:
    """Rows, by fingerprint; on disk where ``path`` is given, one JSON object a line.

    A line cut short by a crash is run again.
    """

    path: Path | None
    known: dict[str, Row] = field(default_factory=dict)
    replaced: int = 0
    """Rows that are run again, because what they were made from has changed since."""
    cut: int = 0
    """Lines that are no whole row, as a sweep that is killed, or whose disk is full, may leave one."""
    facts: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Names of the runs that rows of any time have kept."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other sweeps out of the folder, until this one ends or is killed; raises InputError where one is in it.

        Where the system has no locks for folders, nothing is kept out.
        """
        handle = None if self.path is None or fcntl is None else _opened(self.path)
        try:
            if handle is not None:
                _lock(self.path, handle)
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def begin(self, cells: Sequence[Cell], facts: Mapping[str, Any], *, resume: bool) -> None:
        """Read the rows that are there, of which those of ``cells`` count, and say that the sweep is running.

        Raises InputError where there are rows that nobody resumes, or a run.
        """
        if self.path is None:
            return
        if (self.path / ROWS).exists() and not resume:
            raise wrong("out", f"{self.path / ROWS} exists; resume the sweep (--resume) or name another folder")
        if (self.path / MANIFEST).exists():
            raise wrong("out", f"{self.path} holds a run; name another folder")
        before = about(self.path) if resume and (self.path / SWEEP).exists() else None
        self.facts = {**facts, "resumed": earlier(before, rows=before.get("rows", 0)) if before else []}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._sort(cells)
            self.note("running")
        except OSError as error:
            msg = f"cannot write to {self.path}: {error.strerror or error}"
            raise RunError(msg) from error

    def _sort(self, cells: Sequence[Cell]) -> None:
        """Keep the rows of cells, and those of other coordinates; what was replaced goes to a file of its own."""
        assert self.path is not None
        (former, _), (current, self.cut) = read_lines(self.path / FORMER), read_lines(self.path / ROWS)
        wanted, here = {cell.digest: cell for cell in cells}, {cell.key for cell in cells}
        fits = [line for line in (*former, *current) if line.digest in wanted and self._is_whole(line, wanted)]
        others = [line for line in current if line.digest not in wanted and line.key not in here]
        staying = set(map(id, (*fits, *others)))
        gone = [line for line in (*former, *current) if id(line) not in staying]
        lost = {line.key for line in current if id(line) not in staying}
        self.replaced = len((lost & here) - {line.key for line in fits})
        self.known = {line.digest: line.row for line in fits}
        self.used = {line.row["run"] for line in (*former, *current) if "run" in line.row}
        for name, lines in ((FORMER, gone), (ROWS, [*others, *fits])):
            _replace(self.path / name, "".join(dict.fromkeys(line.text for line in lines)))

    def _is_whole(self, line: Line, wanted: Mapping[str, Cell]) -> bool:
        """Return whether the run of a row is there too, where it is to be kept."""
        return not wanted[line.digest].traced or self.has_run(line.row.get("run"))

    def has_run(self, name: str | None) -> bool:
        """Return whether a run is kept in the folder."""
        return self.path is not None and name is not None and (self.path / name / MANIFEST).is_file()

    def new_run(self) -> str:
        """Return the name of the next run that is kept: a folder in which nothing is."""
        name = next(name for number in count() if (name := f"{RUNS}/{number:04d}") not in self.used)
        self.used.add(name)
        if self.path is not None:
            shutil.rmtree(self.path / name, ignore_errors=True)  # of a run that was killed
        return name

    def add(self, cell: Cell, row: Row) -> None:
        """Keep the row of a cell; raises RunError where it cannot be written."""
        line = Line(cell.digest, cell.coordinates, row)
        self.known[line.digest] = line.row
        if self.path is not None:
            try:
                with (self.path / ROWS).open("a") as file:
                    file.write(line.text)
            except OSError as error:
                msg = f"cannot write {self.path / ROWS}: {error.strerror or error}; the rows before are kept"
                raise RunError(msg) from error

    def note(self, status: str) -> None:
        """Say how the sweep stands; raises OSError where it cannot be written."""
        if self.path is not None:
            ended = None if status == "running" else now()
            data = {**self.facts, "status": status, "rows": len(self.known), "replaced": self.replaced, "ended": ended}
            write_json(self.path / SWEEP, data)

    def end(self, status: str) -> None:
        """Say how the sweep ended, if that can be written."""
        with suppress(OSError):
            self.note(status)


def _opened(folder: Path) -> int | None:
    """Return a handle of a folder, made where there is none; None where it cannot be had."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)
    return None


def _lock(folder: Path | None, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise wrong("out", f"another sweep is writing to {folder}; wait for it, or name another folder") from None
    except OSError:  # the file system has no locks
        return


def facts_of(scenario: Scenario, axes: Mapping[str, Any], cells: Sequence[Cell], of_cells: Sequence[Scenario]) -> Row:
    """Return what the folder of a sweep says of it: the scenario, the grid, and where it comes from.

    ``of_cells`` are the scenarios of all cells, whose files stand there with their fingerprints.
    """
    return {
        "pcsim": FORMAT,
        "title": scenario.document.title,
        "axes": dict(axes),
        "cells": len(cells),
        "digests": [cell.digest for cell in cells],
        "seed": scenario.document.seed,
        "dtype": scenario.document.dtype,
        "asked_for": scenario.document.engine,
        **provenance(scenario),
        "files": {name: content for one in of_cells for name, content in one.files.items()},
        "began": now(),
        "scenario": scenario.plain,
    }


def about(folder: Path) -> Row:
    """Return what the folder of a sweep says of it; raises InputError where it is damaged, or of another format."""
    path = folder / SWEEP
    hint = f"pcsim sweep FILE --out {folder} --resume writes it anew and keeps the rows"
    try:
        found = json.loads(path.read_text(errors="replace"))
    except OSError as error:
        raise InputError([Problem((), f"{path}: {error.strerror}; {hint}")]) from None
    except (ValueError, RecursionError):
        raise InputError([Problem((), f"{path} is damaged; remove it, then {hint}")]) from None
    kind = found.get("pcsim") if isinstance(found, dict) else None
    sound = kind == FORMAT and isinstance(found.get("axes"), dict) and isinstance(found.get("digests"), list)
    if not sound:
        said = f"says pcsim: {str(kind)[:40]!r}, expected {FORMAT!r}" if kind != FORMAT else "lacks its grid"
        raise InputError([Problem((), f"{path} {said}; remove it, then {hint}")])
    return dict(found)


def read_lines(path: Path) -> tuple[list[Line], int]:
    """Return the whole rows of a file, and how many other lines it has: cut short, or of another format."""
    if not path.exists():
        return [], 0
    try:
        texts = path.read_text(errors="replace").splitlines()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise RunError(msg) from error
    lines = [line for text in texts if (line := _line(text)) is not None]
    return lines, len(texts) - len(lines)


def _line(text: str) -> Line | None:
    try:
        found = json.loads(text)
        digest, row = found["digest"], dict(found["row"])
        whole = isinstance(digest, str) and all(key in row for key in IN_EVERY_ROW)
        return Line(digest, found.get("coordinates"), row) if whole else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _replace(path: Path, text: str) -> None:
    """Replace the text of a file at once; one that is not there and would be empty is not made."""
    if (path.read_text(errors="replace") if path.exists() else "") != text:
        part = path.with_name(path.name + ".part")
        part.write_text(text)
        part.replace(path)
