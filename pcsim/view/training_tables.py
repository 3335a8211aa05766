"""Training in a terminal: a line for each epoch as it ends, and a table in the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pcsim.learn.metrics import METRICS
from pcsim.view.text import notes, number, titled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.learn.training import Training
    from pcsim.learn.training_loop import Done
    from pcsim.view.progress import Bar

SPEED = {"samples_per_second": "samples/s", "ticks_per_second": "ticks/s"}

LIVE = 0.2
"""Seconds from one look at the bar to the next."""


class EpochLines:
    """Follows training: a bar with the latest numbers, and a line for each epoch that ends."""

    def __init__(self, bar: Bar, say: Callable[[str], None], *, quiet: bool) -> None:
        self.bar, self.say, self.quiet = bar, say, quiet
        self.shown = 0.0
        self.began, self.first = time.monotonic(), -1

    def __call__(self, done: Done) -> None:
        """Show how far training has come."""
        if self.quiet:
            return
        if self.first < 0:
            self.began, self.first = time.monotonic(), done.step
        if done.epoch_ended is not None:
            self.say(epoch_line(done.epoch, done.epoch_ended))
        now = time.monotonic()
        if now - self.shown >= LIVE or done.step == done.steps:
            self.shown = now
            self.bar.parts(done.step, done.steps, self._latest(done, now))

    def _latest(self, done: Done, now: float) -> str:
        latest = done.latest()
        speed = (done.step - self.first) * latest["samples"] / max(1e-9, now - self.began)
        epoch = done.epoch + (done.epoch_ended is None)
        return f"epoch {epoch}, {_metrics(latest)}, {speed:.0f} samples/s"


def _metrics(row: Mapping[str, float], before: str = "") -> str:
    return ", ".join(f"{name.replace('_', ' ')} {row[before + name]:.4g}" for name in METRICS if before + name in row)


def epoch_line(number_of: int, row: Mapping[str, float]) -> str:
    """Return an epoch in one line: means over it, validation, speed."""
    parts = [f"epoch {number_of}: {_metrics(row)}"]
    if validation := _metrics(row, "validation_"):
        parts.append(f"validation {validation}")
    parts += [f"{row[name]:.0f} {unit}" for name, unit in SPEED.items()]
    return "; ".join([*parts, f"{row['seconds']:.2f} s"])


def training_tables(done: Training) -> list[Any]:
    """Return how training ended, and its last numbers."""
    summary, table = done.summary, Table(show_header=False)
    table.add_row("rule", f"{summary['rule']}, optimiser {summary['optimiser']}, engine {done.manifest['engine']}")
    table.add_row("steps", f"{summary['steps']} of {summary['horizon']}, {summary['epochs']} epochs of "
                           f"{summary['samples']} samples")  # fmt: skip
    table.add_row("ended", f"{done.manifest['status']}: {done.manifest['reason']}")
    for part, name in (("training, last epoch", ""), ("validation", "validation_"), ("test", "test_")):
        if text := _metrics(summary, name):
            table.add_row(part, text)
    table.add_row("seconds", number(summary["seconds"]))
    return [*titled(done.manifest["title"] or "training", table), *notes(summary["warnings"])]
