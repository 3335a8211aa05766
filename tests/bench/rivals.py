"""The rivals of ``pcsim bench``: one table of rows, in modules by what they compute."""

from __future__ import annotations

import backprops
import masks
import populations
import recurrent
import scalars
import scans

RIVALS = (
    *scans.RIVALS, *backprops.RIVALS, *populations.RIVALS, *scalars.RIVALS, *masks.RIVALS, *recurrent.RIVALS,
)  # fmt: skip
