"""Where a trace is kept, and how its arrays are made: a folder on disk, or the memory of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pcsim.errors import wrong

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from zarr.abc.store import Store


class Place(Protocol):
    """Where the chunks and documents of a trace are kept."""

    store: Store

    def get(self, key: str) -> bytes:
        """Return a document."""

    def put(self, key: str, text: bytes) -> None:
        """Replace a document at once, or not at all."""


class Folder:
    """A trace on disk."""

    def __init__(self, path: Path) -> None:
        from zarr.storage import LocalStore

        self.path = path
        self.store: Store = LocalStore(path)

    def get(self, key: str) -> bytes:
        """Return a document."""
        return (self.path / key).read_bytes()

    def put(self, key: str, text: bytes) -> None:
        """Replace a document at once, or not at all."""
        target = self.path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        try:
            partial.write_bytes(text)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


class Memory:
    """A trace that nobody asked to keep."""

    def __init__(self) -> None:
        from zarr.storage import MemoryStore

        self.held: dict[str, Any] = {}
        self.store: Store = MemoryStore(self.held)

    def get(self, key: str) -> bytes:
        """Return a document."""
        return bytes(self.held[key].to_bytes())

    def put(self, key: str, text: bytes) -> None:
        """Replace a document at once."""
        from zarr.buffer.cpu import Buffer

        self.held[key] = Buffer.from_bytes(text)


def open_place(path: Path | None) -> Place:
    """Return the place for a new trace; raises InputError for a folder that holds something."""
    if path is None:
        return Memory()
    if path.is_dir() and any(path.iterdir()):
        raise wrong((), f"{path} is not empty; expected a new folder: name another, or remove this one")
    path.mkdir(parents=True, exist_ok=True)
    return Folder(path)


def create(
    place: Place,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    dims: tuple[str, ...],
) -> Any:
    """Return a new Zarr array of numbers."""
    import zarr
    from zarr.codecs import BloscCodec

    # shuffled lz4 costs little on noise, and takes away the zeros ahead of the light cone
    fast = BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")
    return zarr.create_array(
        place.store,
        name=name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=fast,
        dimension_names=dims,
    )


def create_filled(place: Place, name: str, values: np.ndarray, dims: tuple[str, ...]) -> None:
    """Write a whole array, of numbers or of text, as one chunk."""
    import zarr

    chunks = tuple(max(1, extent) for extent in values.shape)
    if values.dtype.kind not in "UOT":
        create(place, name, values.shape, chunks, values.dtype, dims)[...] = values
        return
    # of zarr's forms of text only this one is in the specification; the others warn
    text = zarr.create_array(place.store, name=name, shape=values.shape, chunks=chunks, dtype=str, dimension_names=dims)
    text[...] = values.astype(object)
