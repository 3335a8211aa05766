"""What is noted along training: a row for each step, for each epoch, and for each comparison with backprop."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import xarray as xr

Row = dict[str, float]

UNITS = {"seconds": "s", "samples_per_second": "1/s", "ticks_per_second": "1/s"}


@dataclass
class Table:
    """Rows of numbers with the same columns."""

    columns: dict[str, list[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def add(self, row: Mapping[str, float]) -> None:
        """Add a row; a column that is new, or that a row lacks, is NaN where it is not known."""
        count = len(self)
        for name in row:
            self.columns.setdefault(name, [float("nan")] * count)
        for name, column in self.columns.items():
            column.append(float(row.get(name, float("nan"))))

    def last(self, name: str, count: int) -> list[float]:
        """Return the last numbers of a column."""
        return self.columns[name][-count:]


@dataclass
class Log:
    """The log of training.

    Attributes
    ----------
    steps : loss and metrics of the batch before its update, learning rate, samples
    epochs : means over the epoch, validation, seconds
    compared : {measure: rows (parameters,)}, at the steps of ``compared_at``
    """

    parameters: tuple[str, ...]
    steps: Table = field(default_factory=Table)
    epochs: Table = field(default_factory=Table)
    compared: dict[str, list[np.ndarray]] = field(default_factory=dict)
    compared_at: list[int] = field(default_factory=list)

    def compare(self, step: int, found: Mapping[str, np.ndarray]) -> None:
        """Add what a comparison with backprop found, {measure: (parameters,)}."""
        self.compared_at.append(step)
        for name, row in found.items():
            self.compared.setdefault(name, []).append(row)

    def dataset(self) -> xr.Dataset:
        """Return the log as an xarray Dataset over ``step``, ``epoch`` and, where there is some, ``compared``."""
        import xarray as xr

        data: dict[str, Any] = {name: ("step", np.array(column)) for name, column in self.steps.columns.items()}
        data |= {f"epoch_{name}": ("epoch", np.array(column)) for name, column in self.epochs.columns.items()}
        coordinates: dict[str, Any] = {"step": np.arange(len(self.steps)), "epoch": np.arange(len(self.epochs))}
        if self.compared_at:
            data |= {name: (("compared", "parameter"), np.array(rows)) for name, rows in self.compared.items()}
            coordinates |= {"compared": np.array(self.compared_at), "parameter": list(self.parameters)}
        found = xr.Dataset(data, coordinates)
        for name, unit in UNITS.items():
            if f"epoch_{name}" in found:
                found[f"epoch_{name}"].attrs["units"] = unit
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole log as named arrays."""
        found = {f"steps:{name}": np.array(column) for name, column in self.steps.columns.items()}
        found |= {f"epochs:{name}": np.array(column) for name, column in self.epochs.columns.items()}
        found |= {f"compared:{name}": np.array(rows) for name, rows in self.compared.items()}
        return found | {"compared_at": np.array(self.compared_at, np.int64)}

    def write_csv(self, folder: Path) -> None:
        """Write ``steps.csv`` and ``epochs.csv``; raises OSError."""
        for name, table in (("steps", self.steps), ("epochs", self.epochs)):
            number = name.removesuffix("s")
            rows = zip(*table.columns.values(), strict=True)
            write_table(folder / f"{name}.csv", [number, *table.columns], ([i, *row] for i, row in enumerate(rows)))


def log_of(parameters: Sequence[str], arrays: Mapping[str, np.ndarray]) -> Log:
    """Return the log that named arrays are of."""
    log = Log(tuple(parameters))
    for key, array in arrays.items():
        kind, _, name = key.partition(":")
        if kind in ("steps", "epochs"):
            getattr(log, kind).columns[name] = array.tolist()
        elif kind == "compared":
            log.compared[name] = list(array)
    log.compared_at = arrays["compared_at"].tolist()
    return log


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV so that a reader finds the old file or the new one, never half of it; raises OSError."""
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
    part.replace(path)
