"""Street View House Numbers from the original MATLAB files of cropped digits."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.graph.array_files import BROKEN, reason
from pcsim.resources import check_file, check_room
from pcsim.scenario.datasets.dataset import (
    Dataset,
    Given,
    Opening,
    Samples,
    Stored,
    check_folder,
    folder_key,
    image_fields,
    labels_of,
    path_of,
    split_key,
)

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray

_SIZE = (32, 32, 3)
_BROKEN = (*BROKEN, IndexError, AttributeError, AssertionError, NotImplementedError, Warning)


def _read(path: Path, what: str, **options: Any) -> Any:
    """Return what a function of ``scipy.io`` reads of a file."""
    from scipy import io  # it takes a tenth of a second

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return getattr(io, what)(str(path), **options)
    except (*_BROKEN, io.matlab.MatReadError) as error:
        raise wrong("file", f"cannot read {path}: {reason(error)}") from None


def _count(path: Path) -> int:
    """Return how many images a file has; what it says of its arrays is all that is read."""
    check_file(path)
    shapes = {name: tuple(shape) for name, shape, _ in _read(path, "whosmat")}
    images = shapes.get("X", ())
    if len(images) != 4 or images[:3] != _SIZE or shapes.get("y") != (images[3], 1):
        held = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"
        raise wrong("file", f"{path} holds {held}, expected X [32, 32, 3, images] and y [images, 1]")
    check_room(path, 2 * 3072 * images[3])
    return int(images[3])


def _arrays(path: Path) -> tuple[Array, Array]:
    """Return images as (images, 3, 32, 32) bytes, and labels, of which 10 stands for 0."""
    held = _read(path, "loadmat", variable_names=["X", "y"])
    images, labels = (held.get(name) for name in ("X", "y"))
    for name, array, types in (("X", images, "B"), ("y", labels, np.typecodes["AllInteger"] + "fd")):
        if not isinstance(array, np.ndarray) or array.dtype.char not in types:
            raise wrong("file", f"{path}: {name} is no array of bytes, as it is in the original")
    numbers = labels_of(path, labels[:, 0], 11).astype(np.uint8)
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), numbers % 10


def _file(given: Given, folder: Path) -> Path:
    return path_of(given["folder"], "svhn", folder) / f"{given['split']}_32x32.mat"


def _open(given: Given, opening: Opening) -> Samples:
    path = _file(given, opening.folder)
    check_folder("svhn", path.parent)
    count, arrays = _count(path), cache(lambda: _arrays(path))
    images, labels = Stored(lambda: arrays()[0]), Stored(lambda: arrays()[1])
    return Samples(count, image_fields((3, 32, 32), images, labels, 10))


SVHN = Dataset(
    "svhn", "house numbers from the street, cropped digits in colour: 73,257 train, 26,032 test, 531,131 extra",
    {"images": "(3, 32, 32), values 0 to 1", "labels": "whole numbers 0 to 9", "one_hot": "(10,)"},
    _open, {"folder": folder_key("svhn"), "split": split_key("train", "test", "extra")},
    origin="its files, such as train_32x32.mat, are those of Stanford's page on the Street View House Numbers",
    files=lambda given, folder: [_file(given, folder)], home="svhn", paired=("split",),
)  # fmt: skip
