"""Where a trace is kept, and how its arrays are made: a folder on disk, or the memory of this process."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from pcsim.errors import wrong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zarr.abc.store import Store

SAMPLE, PLACES = 1024, 8
"""Numbers in a row, and places spread over a chunk, by which its compression is judged."""

MUCH = 2**20
"""Bytes of a file from which on the disk is asked to begin with it at once."""

WORTH = 0.7
"""A chunk is compressed where a sample of it shrinks to less than this part."""


class Place(Protocol):
    """Where the chunks and documents of a trace are kept."""

    store: Store

    def get(self, key: str) -> bytes:
        """Return a document."""

    def put(self, key: str, *pieces: Any) -> None:
        """Replace a document or a chunk at once, or not at all."""

    def remove(self, key: str) -> None:
        """Remove a document or a chunk, if it is there."""


class Folder:
    """A trace on disk."""

    def __init__(self, path: Path) -> None:
        from zarr.storage import LocalStore

        self.path = path
        self.store: Store = LocalStore(path)
        self.made: set[Path] = set()

    def get(self, key: str) -> bytes:
        """Return a document."""
        return (self.path / key).read_bytes()

    def put(self, key: str, *pieces: Any) -> None:
        """Replace a document or a chunk at once, or not at all."""
        target = self.path / key
        if target.parent not in self.made:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.made.add(target.parent)
        partial = target.with_name(target.name + ".partial")
        try:
            with partial.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                start_writing(file)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Remove a document or a chunk, if it is there."""
        (self.path / key).unlink(missing_ok=True)


class Memory:
    """A trace that nobody asked to keep."""

    def __init__(self) -> None:
        from zarr.storage import MemoryStore

        self.held: dict[str, Any] = {}
        self.store: Store = MemoryStore(self.held)

    def get(self, key: str) -> bytes:
        """Return a document."""
        return bytes(self.held[key].to_bytes())

    def put(self, key: str, *pieces: Any) -> None:
        """Replace a document or a chunk at once."""
        from zarr.buffer.cpu import Buffer

        self.held[key] = Buffer.from_bytes(b"".join(pieces))

    def remove(self, key: str) -> None:
        """Remove a document or a chunk, if it is there."""
        self.held.pop(key, None)


def start_writing(file: IO[bytes]) -> None:
    """Let the disk begin with what a file holds, where that is much, while the run goes on."""
    begin = _sync_file_range()
    if begin is not None and file.tell() >= MUCH:
        file.flush()
        begin(file.fileno(), 0, 0, 2)  # SYNC_FILE_RANGE_WRITE: begins to write, waits for nothing, forgets nothing


@lru_cache
def _sync_file_range() -> Any:
    """Return Linux's function of that name, None elsewhere."""
    found = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


def open_place(path: Path | None) -> Place:
    """Return the place for a new trace; raises InputError for a folder that holds something."""
    if path is None:
        return Memory()
    if path.is_dir() and any(path.iterdir()):
        raise wrong((), f"{path} is not empty; expected a new folder: name another, or remove this one")
    path.mkdir(parents=True, exist_ok=True)
    return Folder(path)


@dataclass(frozen=True)
class Target:
    """An array of a trace; its chunks are written here, as zarr spends more time around a chunk than on it.

    Attributes
    ----------
    name : the path of the array in the store
    chunks : the shape of a chunk; the first axis is the ticks, the second may be cut too, all others are whole
    dtype : numbers, written little-endian, as the array's document says
    """

    place: Place
    name: str
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]

    def write(self, start: int, rows: np.ndarray, *, tight: bool = False) -> None:
        """Write the chunks that begin with row ``start``; ``rows`` is (chunks[0], ...), all of it.

        ``tight``: space matters more than time.
        """
        for key, part in self._parts(start, rows):
            self.place.put(key, *packed(self._whole(part), tight=tight))

    def erase(self, start: int, rows: np.ndarray) -> None:
        """Remove the chunks that begin with row ``start``, those that ``write`` would make of ``rows``."""
        for key, _ in self._parts(start, rows):
            self.place.remove(key)

    def _parts(self, start: int, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the chunks that begin with a row, each with its place."""
        if rows.size == 0:
            return
        step = self.chunks[1] if rows.ndim > 1 else 1
        for part, first in enumerate(range(0, rows.shape[1], step) if rows.ndim > 1 else (0,)):
            index = (start // self.chunks[0] if rows.ndim else 0, part, *(0,) * rows.ndim)[: rows.ndim]
            key = ".".join(["c", *map(str, index)])
            yield f"{self.name}/{key}", rows[:, first : first + step] if rows.ndim > 1 else rows

    def _whole(self, part: np.ndarray) -> np.ndarray:
        """Return a chunk of full extent, little-endian and in one piece."""
        if part.shape != self.chunks:
            whole = np.zeros(self.chunks, self.dtype)
            whole[tuple(map(slice, part.shape))] = part
            part = whole
        return np.ascontiguousarray(part, self.dtype.newbyteorder("<"))


def packed(chunk: np.ndarray, *, tight: bool = False) -> tuple[Any, ...]:
    """Return a chunk as the pieces of one Blosc frame: compressed where a sample says that it is worth it, else as is.

    With ``tight`` it is compressed in any case.

    Noise would cost more time than writing it takes, and save a tenth of the space; what lies ahead of the light
    cone is zeros.
    """
    flat = chunk.reshape(-1)
    sample = np.concatenate([flat[at : at + SAMPLE] for at in range(0, flat.size, max(SAMPLE, flat.size // PLACES))])
    if tight or len(_frame(sample, 1)) < WORTH * sample.nbytes:
        return (_frame(flat, 1),)
    return _head(flat.size, flat.dtype), flat.data


def _frame(flat: np.ndarray, level: int) -> bytes:
    blosc: Any = import_module("numcodecs.blosc")  # zarr's own, without types
    frame: bytes = blosc.compress(flat, b"lz4", level, blosc.SHUFFLE)
    return frame


@lru_cache
def _head(size: int, dtype: np.dtype[Any]) -> bytes:
    """Return what stands before numbers that are not compressed; it does not depend on them."""
    numbers = np.zeros(size, dtype)
    return _frame(numbers, 0)[: -numbers.nbytes]


def create(
    place: Place,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    dims: tuple[str, ...],
) -> Target:
    """Return a new Zarr array of numbers."""
    import zarr
    from zarr.codecs import BloscCodec

    # says how chunks can be read; each chunk is packed as hard as it is worth
    fast = BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")
    zarr.create_array(
        place.store,
        name=name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=fast,
        dimension_names=dims,
        chunk_key_encoding={"name": "default", "separator": "."},  # a folder for each index costs more than its chunk
    )
    return Target(place, name, chunks, dtype)


def create_filled(place: Place, name: str, values: np.ndarray, dims: tuple[str, ...]) -> None:
    """Write a whole array, of numbers or of text, as one chunk."""
    import zarr

    chunks = tuple(max(1, extent) for extent in values.shape)
    if values.dtype.kind not in "UOT":
        create(place, name, values.shape, chunks, values.dtype, dims).write(0, values)
        return
    # of zarr's forms of text only this one is in the specification; the others warn
    text = zarr.create_array(place.store, name=name, shape=values.shape, chunks=chunks, dtype=str, dimension_names=dims)
    text[...] = values.astype(object)
