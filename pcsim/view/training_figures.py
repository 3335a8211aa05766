"""Training as pictures: loss and metrics along the steps, and how far updates are from backprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.learn.against_backprop import MEASURES
from pcsim.learn.metrics import METRICS
from pcsim.view.style import (
    BLUE,
    COLOURS,
    LINES,
    VERMILLION,
    legend_below,
    look,
    new_axes,
    remark,
    save,
    sequential,
    short_names,
)

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from matplotlib.figure import Figure

    from pcsim.learn.training import Training

Array = np.ndarray

FEW = len(COLOURS)
"""Up to so many parameters have a colour and an entry of their own."""


def training_figures(done: Training, target: Path) -> list[Path]:
    """Draw the curves of a training; return the files. Raises RunError where they cannot be written."""
    log, title = done.log, done.manifest["title"] or "training"
    found: list[Path] = []
    for name in METRICS:
        if name in log:
            found += save(metric_figure(log, name, title), target / f"training-{name.replace('_', '-')}")
    for name in MEASURES:
        if name in log:
            found += save(comparison_figure(log, name, title), target / f"training-{name}")
    return found


@look()
def metric_figure(log: xr.Dataset, name: str, title: str) -> Figure:
    """Draw a metric of each batch, its mean over epochs, and that of the validation samples."""
    figure, axes = new_axes(2.6, title)
    step = log["step"].to_numpy() + 1
    axes.plot(step, log[name].to_numpy(), color=BLUE, alpha=0.3, linewidth=0.8, label="each batch")
    ends = epoch_ends(log)
    rows = (
        (f"epoch_{name}", "mean of the epoch", BLUE, "o"),
        (f"epoch_validation_{name}", "validation", VERMILLION, "s"),
    )
    for column, label, colour, marker in rows:
        if column in log and len(ends):
            axes.plot(ends, log[column].to_numpy(), color=colour, marker=marker, markersize=3.5, label=label)
    if not METRICS[name].rises and bool((log[name] > 0).all()):
        axes.set_yscale("log")
    axes.set_xlabel("steps (batches learnt)")
    axes.set_ylabel(name.replace("_", " "))
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def epoch_ends(log: xr.Dataset) -> Array:
    """Return how many steps were done at the end of each epoch."""
    epochs = log.sizes["epoch"]
    samples = log["samples"].to_numpy()
    if not epochs:
        return np.zeros(0)
    smaller = np.flatnonzero(samples != samples[0])
    per = int(smaller[0]) + 1 if len(smaller) else len(samples) // epochs
    return np.minimum(per * (np.arange(epochs) + 1), len(samples))


@look()
def comparison_figure(log: xr.Dataset, name: str, title: str) -> Figure:
    """Draw how each parameter's update compares with backprop's along training."""
    figure, axes = new_axes(2.6, title)
    names = [str(each) for each in log["parameter"].to_numpy()]
    shown, few = short_names(names), len(names) <= FEW
    colours: Any = COLOURS if few else sequential(len(names)).colors
    for place, parameter in enumerate(names):
        values = log[name].sel(parameter=parameter).to_numpy()
        line = LINES[place % len(LINES)] if few else "-"
        label = shown[parameter] if few else None
        axes.plot(log["compared"].to_numpy(), values, color=colours[place], linestyle=line, linewidth=1, label=label)
    notes = []
    if name == "divergence":
        zero = not bool((log[name] > 0).any())
        axes.set_yscale("linear" if zero else "log")
        notes = [remark("every update is backprop's, to the last bit")] if zero else []
    axes.set_xlabel("step")
    axes.set_ylabel(f"{name} {'from' if name == 'divergence' else 'with'} backprop")
    legend_below(figure, [*axes.get_legend_handles_labels()[0], *notes])
    return figure
