"""Models of other tools, read from files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.errors import wrong
from pcsim.models.onnx_reader import from_onnx

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pcsim.models.model import Model


def model_of_file(path: Path, dimensions: Mapping[str, Any], batch_axis: int | None) -> Model:
    """Return the model of a file; its ending says which tool it is of.

    Raises
    ------
    InputError
        For another ending, and with everything that cannot be read.
    """
    if path.suffix != ".onnx":
        raise wrong((), f"{path}: expected a file that ends with .onnx")
    return from_onnx(path, dimensions, batch_axis=batch_axis)
