"""Maxima and averages of windows."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsim.ops.op import Op

ROWS: tuple[Op, ...] = ()
