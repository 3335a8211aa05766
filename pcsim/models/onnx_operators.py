"""The operators of ONNX that are read, each a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.models import (
    onnx_arrays,
    onnx_attention,
    onnx_elementwise,
    onnx_layers,
    onnx_logic,
    onnx_losses,
    onnx_recurrent,
)

if TYPE_CHECKING:
    from pcsim.models.onnx_node import Operator

FAMILIES = (onnx_elementwise, onnx_logic, onnx_arrays, onnx_layers, onnx_recurrent, onnx_attention, onnx_losses)

OPERATORS: dict[str, Operator] = {row.name: row for family in FAMILIES for row in family.ROWS}
"""{name of the operator: its row}."""
