"""Reads ``.safetensors`` files: 8 bytes that say how long the header is, the header (JSON), then plain numbers.

The header gives for each tensor its number format, its shape and where its bytes begin and end, counted from the end of
the header. Numbers are little-endian, in C order. See https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_HEADER = 100_000_000
"""Bytes, as in the reference implementation."""

FORMATS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip
"""Number formats by name; BF16 is read as the upper halves of float32."""


@dataclass(frozen=True)
class Tensor:
    """What the header says of one tensor; ``begin`` and ``end`` count bytes from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def tensors_in(stream: BinaryIO) -> dict[str, Tensor]:
    """Return {name: tensor} as a file's header says, checked against the size of the file.

    Raises ValueError where the header is none, a number format is unknown, or the bytes of tensors do not fit their
    shapes, overlap, leave gaps, or reach beyond the end of the file.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > min(size - 8, LONGEST_HEADER):
        message = f"it is no safetensors file: a header of {length} bytes does not fit in {size} bytes"
        raise ValueError(message)
    header = _header(stream.read(length))
    tensors = {name: _tensor(name, row, 8 + length) for name, row in header.items() if name != "__metadata__"}
    _check_order(sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)), 8 + length, size)
    return tensors


def read_tensor(stream: BinaryIO, tensor: Tensor) -> NDArray[Any]:
    """Return the array of a tensor."""
    stream.seek(tensor.begin)
    kind = np.dtype(FORMATS[tensor.dtype])
    raw = np.frombuffer(stream.read(tensor.end - tensor.begin), kind).reshape(tensor.shape)
    if tensor.dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("its header is nested too deep") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("its header is not valid JSON") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no map of names")
    return header


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        message = f"its header gives {next(name for name in names if names.count(name) > 1)!r} twice"
        raise ValueError(message)
    return made


def _tensor(name: str, row: Any, start: int) -> Tensor:
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(row, dict) or set(row) != keys:
        message = f"tensor {name!r} has to have dtype, shape and data_offsets, and nothing else"
        raise ValueError(message)
    if row["dtype"] not in FORMATS:
        message = f"tensor {name!r} has the number format {row['dtype']!r}, expected one of {', '.join(FORMATS)}"
        raise ValueError(message)
    shape, offsets = _whole(row["shape"]), _whole(row["data_offsets"])
    if shape is None or offsets is None or len(offsets) != 2:
        message = f"tensor {name!r} has shape {row['shape']!r} and data_offsets {row['data_offsets']!r}"
        raise ValueError(message)
    begin, end = offsets
    if end - begin != prod(shape) * np.dtype(FORMATS[row["dtype"]]).itemsize:
        message = f"tensor {name!r} has {end - begin} bytes, which is not what {row['dtype']} of shape {shape} takes"
        raise ValueError(message)
    return Tensor(name, row["dtype"], tuple(shape), start + begin, start + end)


def _whole(numbers: Any) -> list[int] | None:
    """Return a list of whole numbers, 0 or more; None where it is none."""
    right = isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)
    return numbers if right else None


def _check_order(tensors: list[Tensor], start: int, size: int) -> None:
    """Refuse tensors that overlap, leave a gap, or end elsewhere than the file does."""
    for tensor in tensors:
        if tensor.begin != start:
            what = "overlaps the one before it" if tensor.begin < start else "leaves a gap before it"
            message = f"tensor {tensor.name!r} {what}"
            raise ValueError(message)
        start = tensor.end
    if start != size:
        message = f"its tensors end at byte {start}, but it has {size}: it is cut short, or too long"
        raise ValueError(message)
