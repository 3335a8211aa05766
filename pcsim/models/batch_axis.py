"""Drops the batch axis of a model made elsewhere from its vertices: an axis of extent 1 that says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsim.models.vertex_rows import Rows


def without_batch_axis(rows: Rows, axis: int) -> Rows:
    """Return the rows without the batch axis, ``axis`` of the inputs."""
    assert axis >= 0
    return rows
