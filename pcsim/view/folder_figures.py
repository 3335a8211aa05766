"""Every figure that a folder allows, be it of a run or of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.errors import wrong
from pcsim.run.result import MANIFEST, SWEEP, open_run
from pcsim.run.sweep_folder import ROWS
from pcsim.sweep import open_sweep
from pcsim.view.figures import run_figures
from pcsim.view.sweep_results import no_picture, sweep_picture

if TYPE_CHECKING:
    from pathlib import Path


def folder_figures(folder: Path, target: Path) -> list[Path]:
    """Draw every figure of a run, or the picture of a sweep, in the folder ``target``; return the files.

    Raises InputError where the folder is neither, or has nothing to draw.
    """
    if (folder / MANIFEST).exists() or not any((folder / name).exists() for name in (SWEEP, ROWS)):
        return run_figures(open_run(folder), target)
    found = open_sweep(folder)
    if why := no_picture(found):
        raise wrong((), f"{folder}: {why}")
    return sweep_picture(found, target)
