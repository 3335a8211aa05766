"""Whether the folder of a trace is whole: zarr takes a chunk that is missing for zeros, and says little of others."""

from __future__ import annotations

import json
import os
from itertools import product
from math import prod
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, wrong

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DAMAGED = (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, OSError, NotImplementedError)
"""What readers of JSON, zarr and Blosc raise where a file is not as it was written."""

FRAME = 16
"""Bytes of the head of a Blosc frame, which says how long it is, packed and unpacked."""


def damaged(what: object, why: str) -> InputError:
    """Return the error of a file that is not as it was written."""
    return wrong((), f"{what} {why}; copy the folder again from where it is whole, or run its scenario again")


def check_folder(store: Path) -> None:
    """Raise InputError where a file of a trace is missing or cut short; numbers are not looked at."""
    root = store / "zarr.json"
    try:
        documents = json.loads(root.read_text())["consolidated_metadata"]["metadata"]
        arrays = {name: row for name, row in documents.items() if row["node_type"] == "array"}
        expected = {store / name: _chunks(row) for name, row in arrays.items()}
    except DAMAGED as error:
        raise damaged(root, f"is damaged ({type(error).__name__}: {str(error)[:80]})") from None
    for folder, chunks in expected.items():
        _check_array(folder, chunks, arrays[folder.relative_to(store).as_posix()])


def _chunks(array: Mapping[str, Any]) -> list[str]:
    """Return the names of the files of an array."""
    shape, chunk = array["shape"], array["chunk_grid"]["configuration"]["chunk_shape"]
    counts = [range(-(-extent // step)) for extent, step in zip(shape, chunk, strict=True)]
    return [".".join(["c", *map(str, index)]) for index in product(*counts)]


def _check_array(folder: Path, chunks: list[str], array: Mapping[str, Any]) -> None:
    codecs = tuple(codec["name"] for codec in array["codecs"])
    extent = prod(array["chunk_grid"]["configuration"]["chunk_shape"])
    for name in chunks:
        try:
            with (folder / name).open("rb") as file:  # another process may put a longer one in its place meanwhile
                size = os.fstat(file.fileno()).st_size
                wanted = _SIZES[codecs](file, extent, array["data_type"]) if codecs in _SIZES else size
        except OSError:
            raise damaged(folder / name, "is missing") from None
        if size != wanted:
            raise damaged(folder / name, f"is damaged: it holds {size:,} bytes, not {wanted:,}")


def _plain_size(_file: IO[bytes], extent: int, kind: str) -> int:
    return extent * np.dtype(kind).itemsize


def _packed_size(file: IO[bytes], _extent: int, _kind: str) -> int:
    """Return how many bytes a Blosc frame says that it has."""
    head = file.read(FRAME)
    return int.from_bytes(head[12:], "little") if len(head) == FRAME else FRAME


def _text_size(file: IO[bytes], extent: int, _kind: str) -> int:
    """Return how many bytes texts take, of which each says its length."""
    content = file.read()
    end = 4
    for _ in range(extent):
        end += 4 + int.from_bytes(content[end : end + 4], "little")
    return end


_SIZES = {("bytes",): _plain_size, ("bytes", "blosc"): _packed_size, ("vlen-utf8",): _text_size}
"""How many bytes a file should hold, by how it is written."""
