"""Pictures of what is given: a run, a sweep, or the folder of either."""

from __future__ import annotations

from pathlib import Path

from pcsim.errors import wrong
from pcsim.run.result import Run
from pcsim.sweep import Sweep
from pcsim.view.figures import run_figures
from pcsim.view.folder_figures import folder_figures
from pcsim.view.sweep_results import no_picture, sweep_picture


def plot(source: Run | Sweep | str | Path, out: str | Path) -> list[Path]:
    """Draw the figures of a run or of a sweep as PNG and SVG.

    Parameters
    ----------
    source : a run, a sweep, or the folder of either
    out : the folder that the files are written to

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        If there is nothing to draw; the message says why.
    """
    if isinstance(source, Run):
        return run_figures(source, Path(out))
    if not isinstance(source, Sweep):
        return folder_figures(Path(source), Path(out))[0]
    if why := no_picture(source):
        raise wrong("plot", why)
    return sweep_picture(source, Path(out))
