"""Models of other tools, read from files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.errors import nearest, wrong
from pcsim.models.nir_reader import from_nir
from pcsim.models.onnx_reader import from_onnx
from pcsim.models.torch_reader import read_exported

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pcsim.models.model import Model

ENDINGS = (".onnx", ".nir", ".pt2")
"""How the names of files end that hold models of other tools."""


def model_of_file(path: Path, settings: Mapping[str, Any], batch_axis: int | None = 0) -> Model:
    """Return the model of a file; its ending says which tool it is of.

    Parameters
    ----------
    settings : of an ONNX file, and one of torch.export, extents of dimensions that it leaves open; of a NIR file
        ``dt``, what a tick lasts
    batch_axis : of inputs; NIR has none

    Raises
    ------
    InputError
        For another ending, and with everything that cannot be read.
    """
    if path.suffix == ".onnx":
        return from_onnx(path, settings, batch_axis=batch_axis)
    if path.suffix == ".nir":
        return from_nir(path, **_of_nir(settings))
    if path.suffix == ".pt2":
        return read_exported(path, settings, batch_axis)
    raise wrong((), f"{path}: expected a file that ends with {' or '.join(ENDINGS)}")


def _of_nir(settings: Mapping[str, Any]) -> dict[str, float]:
    for key, value in settings.items():
        if key != "dt":
            raise wrong(key, f"unknown setting {key!r}" + nearest(key, ["dt"]))
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise wrong(key, f"expected what a tick lasts, a number above 0, got {value!r}")
    return {key: float(value) for key, value in settings.items()}
