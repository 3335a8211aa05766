"""MNIST and FashionMNIST from their original files: the format IDX, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pcsim.errors import wrong
from pcsim.ops.attributes import choice, optional
from pcsim.ops.op import Attribute
from pcsim.resources import check_file, check_room
from pcsim.scenario.datasets.dataset import (
    Dataset,
    Given,
    Opening,
    Samples,
    Stored,
    check_folder,
    check_pairs,
    folder_key,
    image_fields,
    labels_of,
    path_of,
    split_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedIOBase, BufferedReader
    from pathlib import Path

    from pcsim.arrays import Shape

Array = np.ndarray
T = TypeVar("T")

_GZIP = b"\x1f\x8b"
_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path) -> Array:
    """Return the array of an IDX file (the format of MNIST), gzipped or not; raises InputError."""
    return _opened(path, _array)


def shape_of_idx(path: Path) -> Shape:
    """Return the shape of an IDX file, of which no more than the head is read; raises InputError."""
    return _opened(path, _head)[1]


@cache
def _unpacking() -> tuple[Callable[[BufferedReader], BufferedIOBase], type[Exception]]:
    """Return what opens a packed file, and what it raises; isal, where it is there, takes less than half the time."""
    if not find_spec("isal"):
        return gzip.open, zlib.error
    return import_module("isal.igzip").open, import_module("isal.isal_zlib").error


def _unpacked(plain: BufferedReader) -> BufferedIOBase:
    """Return what reads a file as it was before it was packed, if it was."""
    return _unpacking()[0](plain) if plain.peek(2)[:2] == _GZIP else plain


def _opened(path: Path, read: Callable[[Path, BufferedIOBase], T]) -> T:
    check_file(path)
    try:
        with path.open("rb") as plain, _unpacked(plain) as stream:
            return read(path, stream)
    except (OSError, EOFError, _unpacking()[1]) as error:
        raise wrong("file", f"cannot read {path}: {error}") from None


def _head(path: Path, stream: BufferedIOBase) -> tuple[np.dtype[np.generic], Shape]:
    """Return the number format and the shape of an IDX file."""
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _KINDS:
        raise wrong("file", f"{path} is not an IDX file")
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise wrong("file", f"{path} is cut short: it has no shape")
    shape = tuple(int.from_bytes(sizes[place : place + 4], "big") for place in range(0, len(sizes), 4))
    return np.dtype(_KINDS[head[2]]), shape


def _array(path: Path, stream: BufferedIOBase) -> Array:
    """Return the array of an IDX file; no more of the file is read than its head says that there is."""
    kind, shape = _head(path, stream)
    wanted = prod(shape) * kind.itemsize
    check_room(path, wanted)
    raw = stream.read(wanted + 1)
    if len(raw) != wanted:
        held = f"{len(raw)} bytes" if len(raw) < wanted else f"more than {wanted} bytes"
        raise wrong("file", f"{path} is cut short, or too long: it holds {held} and says shape {list(shape)}")
    return np.frombuffer(raw, kind).reshape(shape)


# -- the data sets -----------------------------------------------------------------------------------------

_SIZE, _CLASSES = (28, 28), 10
_PREFIXES = {"train": "train", "test": "t10k"}
_FIELDS = {"images": "(28, 28), values 0 to 1", "labels": "whole numbers 0 to 9", "one_hot": "(10,)"}
_HELD = 10_000
"""Digits in the folder ``mnist10k``."""


def _files(folder: Path, split: str) -> list[Path]:
    """Return the files of images and of labels; those that are not there are left out."""
    places = (folder, folder / "raw")
    names = (f"{_PREFIXES[split]}-{part}*" for part in ("images", "labels"))
    kinds = [sorted(path for place in places for path in place.glob(name)) for name in names]
    return [paths[0] for paths in kinds if paths]


def _pair(name: str, folder: Path, split: str) -> tuple[Path, Path]:
    check_folder(name, folder)
    files = _files(folder, split)
    if len(files) != 2:
        prefix = _PREFIXES[split]
        wanted = f"{prefix}-images-idx3-ubyte and {prefix}-labels-idx1-ubyte, each plain or .gz"
        raise wrong("folder", f"data set {name!r} is not in {folder}: expected {wanted}")
    return files[0], files[1]


def _read_images(path: Path) -> Array:
    _count_images(path, array := read_idx(path))
    return array


def _read_labels(path: Path) -> Array:
    _count_labels(path, array := read_idx(path))
    return labels_of(path, array, _CLASSES)


def _count_images(path: Path, array: Array | None = None) -> int:
    """Return how many images a file has; refuse those of another size."""
    shape = shape_of_idx(path) if array is None else array.shape
    if shape[1:] != _SIZE or len(shape) != 3 or (array is not None and array.dtype != np.uint8):
        raise wrong("file", f"{path} holds shape {list(shape)}, expected bytes of shape [images, 28, 28]")
    return shape[0]


def _count_labels(path: Path, array: Array | None = None) -> int:
    shape = shape_of_idx(path) if array is None else array.shape
    if len(shape) != 1:
        raise wrong("file", f"{path} holds shape {list(shape)}, expected one label for each image")
    return shape[0]


def _samples(count: int, pair: Callable[[], tuple[Path, Path]]) -> Samples:
    images, labels = Stored(lambda: _read_images(pair()[0])), Stored(lambda: _read_labels(pair()[1]))
    return Samples(count, image_fields(_SIZE, images, labels, _CLASSES))


def _open(name: str, home: str, given: Given, opening: Opening) -> Samples:
    images, labels = _pair(name, path_of(given["folder"], home, opening.folder), given["split"])
    count = _count_images(images)
    check_pairs(images, count, labels, _count_labels(labels))
    return _samples(count, lambda: (images, labels))


def _open_mnist(given: Given, opening: Opening) -> Samples:
    """Open the files of a folder; without one the digits of ``mnist10k``, whose number and shape are known."""
    if given["folder"] is not None:
        return _open("mnist", "", {**given, "split": given["split"] or "train"}, opening)
    if given["split"] not in (None, "test"):
        raise wrong("split", f"the {_HELD:,} digits of mnist10k are of the test set; name the folder of the whole set")

    def pair() -> tuple[Path, Path]:
        folder = path_of(None, "mnist10k", opening.folder)
        if len(files := _files(folder, "test")) != 2:
            message = f"data set 'mnist' is not in {folder}; set PCSIM_DATA to the folder that holds 'mnist10k'"
            raise wrong("folder", message + ", or name the folder of its files with 'folder'")
        return files[0], files[1]

    return _samples(_HELD, pair)


def _files_of(home: str, given: Given, folder: Path) -> list[Path]:
    split = given["split"] or ("train" if given["folder"] else "test")
    return _files(path_of(given["folder"], home, folder), split)


_MNIST_SPLIT = Attribute(
    optional(choice("a split", ("train", "test"))), summary="with folder: train (default) or test; without it: test"
)
MNIST = Dataset(
    "mnist", "handwritten digits of 28 x 28: 60,000 train, 10,000 test; without 'folder' the 10,000 of "
    "PCSIM_DATA/mnist10k", _FIELDS, _open_mnist,
    {"folder": folder_key("mnist10k"), "split": _MNIST_SPLIT},
    origin="its files are those of LeCun, Cortes and Burges: the MNIST database",
    files=partial(_files_of, "mnist10k"), home="mnist10k", paired=("split",),
)  # fmt: skip
FASHION_MNIST = Dataset(
    "fashion-mnist", "articles of clothing, images of 28 x 28: 60,000 train, 10,000 test", _FIELDS,
    partial(_open, "fashion-mnist", "fashion-mnist"),
    {"folder": folder_key("fashion-mnist"), "split": split_key("train", "test")},
    origin="its files are in data/fashion of the GitHub project zalandoresearch/fashion-mnist",
    files=partial(_files_of, "fashion-mnist"), home="fashion-mnist", paired=("split",),
)  # fmt: skip
