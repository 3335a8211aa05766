"""Every figure that a folder allows, be it of a run, a sweep or a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.errors import wrong
from pcsim.learn.training import MANIFEST as TRAINING
from pcsim.learn.training import open_training
from pcsim.run.result import MANIFEST, SWEEP, open_run
from pcsim.run.sweep_folder import ROWS
from pcsim.sweep import open_sweep
from pcsim.view.figures import not_drawn, run_figures
from pcsim.view.sweep_results import no_picture, sweep_picture
from pcsim.view.training_figures import training_figures

if TYPE_CHECKING:
    from pathlib import Path


def folder_figures(folder: Path, target: Path) -> tuple[list[Path], str]:
    """Draw every figure of a run, a sweep or a training; return the files, and which figures are missing and why.

    Raises InputError where the folder is none of these, or has nothing to draw.
    """
    if (folder / TRAINING).exists():
        return training_figures(open_training(folder), target), ""
    if (folder / MANIFEST).exists() or not any((folder / name).exists() for name in (SWEEP, ROWS)):
        run = open_run(folder)
        return run_figures(run, target), not_drawn(run)
    found = open_sweep(folder)
    if why := no_picture(found):
        raise wrong((), f"{folder}: {why}")
    return sweep_picture(found, target), ""
