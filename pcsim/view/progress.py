"""Progress on what takes longer than a second: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from pcsim.documents.yaml_text import MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

WAIT = 1.0
"""Seconds before anything is shown."""
LONG_READING = 3.0
"""Seconds from which reading a document is announced."""
LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""


SECONDS_A_MEGABYTE = 2.0
"""About how long it takes to read and check a document."""


def reading(file: Path) -> str:
    """Return a line on a document that takes long to read; empty for all others."""
    try:
        megabytes = file.stat().st_size / 1e6
    except (OSError, ValueError):  # whoever reads it says what is wrong with it
        return ""
    seconds = SECONDS_A_MEGABYTE * megabytes
    slow = LONG_READING < seconds <= SECONDS_A_MEGABYTE * MAX_BYTES / 1e6
    return f"reading {file}: {megabytes:.1f} MB, about {seconds:.0f} s" if slow else ""


class Bar:
    """Shows how far a run or a sweep has come; shows nothing if it ends within a second."""

    def __init__(self, console: Console, unit: str, *, quiet: bool) -> None:
        self.console, self.unit, self.quiet = console, unit, quiet
        self.began = self.said = time.monotonic()
        self.progress: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def ticks(self, done: int, total: int) -> None:
        """Follow a run."""
        self._show(done, total, "")

    def cells(self, done: int, total: int, row: dict[str, Any]) -> None:
        """Follow a sweep."""
        self._show(done, total, f"{row['rule']} {row['step_size']:g}")

    def parts(self, done: int, total: int, note: str) -> None:
        """Follow something with a note on what is being done."""
        self._show(done, total, note)

    def _show(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self.quiet or now - self.began < WAIT:
            return
        if self.console.is_terminal:
            self._bar(done, total, note)
        elif now - self.said >= LINE_EVERY or done == total:
            self.said = now
            seconds = now - self.began
            what = " ".join([f"{done}/{total} {self.unit}", *([note] if note else [])])
            self.console.print(f"{what}, {seconds:.0f} s", highlight=False, markup=False)

    def _bar(self, done: int, total: int, note: str) -> None:
        if self.progress is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.progress = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                     TimeRemainingColumn(), console=self.console, transient=True)  # fmt: skip
            self.task = self.progress.add_task(self.unit, total=total)
            self.progress.start()
        self.progress.update(self.task, completed=done, description=f"{self.unit} {note}")
