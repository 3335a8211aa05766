"""Where a trace is written: arrays of Zarr's version 3 as files of a folder, each replaced as a whole or not at all.

zarr reads what is written here, but does not write it: its import takes 0.15 s and an array 3 ms, together 0.3 s of a
run of five vertices, and its documents are not replaced at once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Document = dict[str, Any]

SAMPLE, SAMPLES = 1024, 8
"""Numbers in a row, and how many such rows spread over a chunk, by which its compression is judged."""

WORTH = 0.7
"""A chunk is compressed where a sample of it shrinks to less than this part. Recording 600 MiB of noise takes 0.7 s on
two cores; where all of it is compressed, 1.0 s for a tenth less space."""

DISK_BLOCK = 4096
"""Bytes that a file takes at least; what is no larger is not compressed."""

LARGE = 2**18
"""Bytes of a file from which on the disk is asked to begin with it."""


class Folder:
    """A folder for a new trace; raises InputError where it holds something."""

    def __init__(self, path: Path) -> None:
        if path.is_dir() and any(path.iterdir()):
            raise wrong((), f"{path} is not empty; expected a new folder: name another, or remove this one")
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.made: set[Path] = set()

    def put(self, key: str, content: Any) -> None:
        """Replace a document or a chunk at once, or not at all."""
        target = self.path / key
        if target.parent not in self.made:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.made.add(target.parent)
        partial = target.with_name(target.name + ".partial")
        try:
            with partial.open("wb") as file:
                file.write(content)
                _start_writing(file)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Remove a document or a chunk, if it is there."""
        (self.path / key).unlink(missing_ok=True)


def _start_writing(file: IO[bytes]) -> None:
    """Let the disk begin with a large file while the run goes on, where the system can be asked to.

    Recording 600 MiB takes 0.64 s in place of 0.95 s (medians of ten); ``posix_fadvise``, which Python has, 0.74 s, but
    it forgets what was written, and who opens the trace reads it from the disk.
    """
    begin = _sync_file_range()
    if begin is not None and file.tell() >= LARGE:
        file.flush()
        begin(file.fileno(), 0, 0, 2)  # SYNC_FILE_RANGE_WRITE: begin to write, wait for nothing, forget nothing


@cache
def _sync_file_range() -> Any:
    """Return Linux's function of that name, which Python has none for; None elsewhere."""
    if sys.platform != "linux":
        return None
    import ctypes

    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


@dataclass(frozen=True)
class Target:
    """An array of numbers in a folder.

    Attributes
    ----------
    name : the path of the array
    chunks : the shape of a chunk; the first axis is the ticks, the second may be cut too, all others are whole
    dtype : numbers, written little-endian, as the array's document says
    """

    folder: Folder
    name: str
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def compressed(self) -> bool:
        """Whether chunks are compressed."""
        return int(np.prod(self.chunks)) * self.dtype.itemsize > DISK_BLOCK

    def document(self, shape: tuple[int, ...], dims: tuple[str, ...]) -> Document:
        """Return what says how chunks are to be read."""
        blosc = {"typesize": self.dtype.itemsize, "cname": "lz4", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
        codecs += [{"name": "blosc", "configuration": blosc}] if self.compressed else []
        return array_document(shape, self.chunks, self.dtype.name, self.dtype.type(0).item(), codecs, dims)

    def write(self, start: int, rows: np.ndarray, *, tight: bool = False) -> None:
        """Write the chunks that begin with row ``start``; ``rows`` is (chunks[0], ...), all of it.

        ``tight``: space matters more than time.
        """
        for key, part in self._parts(start, rows):
            whole = self._whole(part)
            self.folder.put(key, packed(whole.reshape(-1), tight=tight) if self.compressed else whole.data)

    def erase(self, start: int, rows: np.ndarray) -> None:
        """Remove the chunks that begin with row ``start``, those that ``write`` would make of ``rows``."""
        for key, _ in self._parts(start, rows):
            self.folder.remove(key)

    def _parts(self, start: int, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the chunks that begin with a row, each with its key."""
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


def packed(flat: np.ndarray, *, tight: bool = False) -> Any:
    """Return the numbers of a chunk as a Blosc frame, compressed where a sample says that it is worth it, or ``tight``.

    Noise would cost more time than writing it takes; what lies ahead of the light cone is zeros.
    """
    step = max(SAMPLE, flat.size // SAMPLES)
    sample = np.concatenate([flat[start : start + SAMPLE] for start in range(0, flat.size, step)])
    return _frame(flat, 1 if tight or len(_frame(sample, 1)) < WORTH * sample.nbytes else 0)


def _frame(flat: np.ndarray, level: int) -> Any:
    blosc: Any = import_module("numcodecs.blosc")  # zarr's own, without types
    return blosc.compress(flat, b"lz4", level, blosc.SHUFFLE)


def array_document(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    kind: str,
    fill: Any,
    codecs: list[Document],
    dims: tuple[str, ...],
) -> Document:
    """Return the document of an array, as Zarr's version 3 has it."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": kind,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        # a folder for each index would cost more than its chunk
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def is_text(values: np.ndarray) -> bool:
    """Return whether an array holds text."""
    return values.dtype.kind in "UOT"


def write_whole(folder: Folder, name: str, values: np.ndarray, dims: tuple[str, ...]) -> Document:
    """Write an array, of numbers or of text, as one chunk, and return its document."""
    chunks = tuple(max(1, extent) for extent in values.shape)
    if not is_text(values):
        target = Target(folder, name, chunks, values.dtype)
        target.write(0, values)
        return target.document(values.shape, dims)
    if values.size:
        folder.put(f"{name}/{'.'.join(['c', *'0' * values.ndim])}", _text(values))
    return array_document(values.shape, chunks, "string", "", [{"name": "vlen-utf8", "configuration": {}}], dims)


def _text(values: np.ndarray) -> bytes:
    """Return texts as Zarr's codec vlen-utf8 does: how many, then each with its length in bytes."""
    texts = [str(text).encode() for text in values.reshape(-1)]
    return b"".join([_length(len(texts)), *(piece for text in texts for piece in (_length(len(text)), text))])


def _length(number: int) -> bytes:
    return number.to_bytes(4, "little")
