"""Arrays in files: ``.npz`` and ``.npy`` of NumPy, and ``.safetensors``."""

from __future__ import annotations

import struct
import zlib
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import BadZipFile

import numpy as np

from pcsim.errors import nearest, wrong
from pcsim.graph.safetensors import read_tensor, tensors_in
from pcsim.resources import check_file, check_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

BROKEN = (
    OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, RuntimeError, SyntaxError, MemoryError,
    TokenError, BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What readers raise for a damaged file: numpy parses part of its header as Python does."""

SUFFIXES = (".npz", ".npy", ".safetensors")
"""How the names of files end that `read_array` reads."""


def read_array(file: str | Path, key: str | None, *, records: bool = False) -> NDArray[Any]:
    """Return an array of numbers of a file, by key where it holds several; raises InputError if there is none.

    With ``records`` it may also be a table with named columns (a structured array).
    """
    path = Path(file)
    kinds = "biufV" if records else "biuf"
    (array,) = _read(path, lambda names: [_chosen(path, names, key)], kinds).values()
    return array


def read_arrays(file: str | Path) -> Arrays:
    """Return {name: array} of an ``.npz`` or ``.safetensors`` file; raises InputError where it is none.

    A single array without a name (``.npy``) has the name ``""``.
    """
    return _read(Path(file), lambda names: names)


def _read(path: Path, choose: Callable[[Sequence[str]], Sequence[str]], kinds: str = "biuf") -> Arrays:
    """Return the arrays that are chosen among the names of a file; refuse those that hold no numbers."""
    with _opened(path) as stream:
        check_room(path, path.stat().st_size)
        arrays = (_tensors if path.suffix == ".safetensors" else _numpy)(stream, choose)
    for array in arrays.values():
        if array.dtype.kind not in kinds:
            raise wrong("file", f"{path} holds {array.dtype}, expected numbers")
        array.setflags(write=False)
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file; what cannot be read is named."""
    check_file(path)
    try:
        # Opened here, for numpy leaves a broken file open.
        with path.open("rb") as stream:
            yield stream
    except BROKEN as error:
        raise wrong("file", f"cannot read {path}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """Return in one line why a file cannot be read."""
    if "pickle" in str(error):
        return "it holds Python objects, expected plain numbers (saved with numpy.savez)"
    return " ".join(str(error).split()) or type(error).__name__


def _numpy(stream: BinaryIO, choose: Callable[[Sequence[str]], Sequence[str]]) -> Arrays:
    found = np.load(stream, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return {"": found}
    names = choose(found.files)
    sizes = {member.filename.removesuffix(".npy"): member.file_size for member in found.zip.infolist()}
    check_room(Path(stream.name), sum(sizes.get(name, 0) for name in names))  # they may be compressed
    return {name: np.asarray(found[name]) for name in names}


def _tensors(stream: BinaryIO, choose: Callable[[Sequence[str]], Sequence[str]]) -> Arrays:
    tensors = tensors_in(stream)
    return {name: read_tensor(stream, tensors[name]) for name in choose(list(tensors))}


def _chosen(path: Path, names: Sequence[str], key: str | None) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key is None:
        raise wrong("key", f"{path} holds {', '.join(names)}: say which with 'key'")
    if key not in names:
        raise wrong("key", f"{path} has no array {key!r}" + nearest(key, names))
    return key
