"""The baselines of ``pcsim bench``: one table of rows, in modules by what they compute."""

from __future__ import annotations

import backprops
import masks
import populations
import recurrent
import scalars
import scans

BASELINES = (
    *scans.BASELINES,
    *backprops.BASELINES,
    *populations.BASELINES,
    *scalars.BASELINES,
    *masks.BASELINES,
    *recurrent.BASELINES,
)
