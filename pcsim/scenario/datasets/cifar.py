"""CIFAR-10 and CIFAR-100 from their original files, the binary version or the one for Python."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pcsim.errors import wrong
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
    label_fields,
    labels_of,
    path_of,
    split_key,
)
from pcsim.scenario.datasets.plain_pickle import read_pickle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pcsim.scenario.datasets.dataset import Places

Array = np.ndarray
Parts = dict[str, Array]

_SIZE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Version:
    """CIFAR-10 or CIFAR-100: its folders, its files, and the labels before the pixels of an image."""

    name: str
    folders: tuple[str, ...]
    files: dict[str, tuple[str, ...]]
    labels: dict[str, tuple[str, int]]
    """{prefix of the field: (key in the version for Python, classes)}, in the order of the binary version."""

    def sought(self, given: Given, folder: Path) -> list[Path]:
        """Return the files of a split that there are: the binary ones where there is any of them."""
        root = path_of(given["folder"], self.name, folder)
        for place in (root, *(root / inside for inside in self.folders)):
            for ending in (".bin", ""):
                paths = [place / f"{name}{ending}" for name in self.files[given["split"]]]
                if any(path.exists() for path in paths):
                    return paths
        return []

    def open(self, given: Given, opening: Opening) -> Samples:
        root = path_of(given["folder"], self.name, opening.folder)
        check_folder(self.name, root)
        paths = self.sought(given, opening.folder)
        if not paths:
            names = ", ".join(self.files[given["split"]])
            raise wrong("folder", f"data set {self.name!r} is not in {root}: expected {names}, with or without .bin")

        @cache
        def parts() -> Parts:
            read = [self._binary(path) if path.suffix else self._pickled(path) for path in paths]
            return {name: np.concatenate([part[name] for part in read]) for name in read[0]}

        count = sum(map(self._count, paths)) if paths[0].suffix else len(parts()["images"])

        def part(name: str) -> Callable[[Places], Array]:
            return Stored(lambda: parts()[name])

        fields = image_fields(_SIZE, part("images"), part(""), self.labels[""][1])
        for prefix, (_, classes) in self.labels.items():
            fields |= label_fields(part(prefix), classes, prefix)
        return Samples(count, fields)

    def _count(self, path: Path) -> int:
        """Return how many images a binary file has."""
        check_file(path)
        record, size = len(self.labels) + _PIXELS, path.stat().st_size
        if not size or size % record:
            raise wrong(
                "file", f"{path} is cut short, or no file of {self.name}: {size:,} bytes, not {record:,} an image"
            )
        return size // record

    def _binary(self, path: Path) -> Parts:
        count = self._count(path)
        check_room(path, path.stat().st_size)
        rows = np.fromfile(path, np.uint8).reshape(count, -1)
        found = {"images": rows[:, len(self.labels) :].reshape(-1, *_SIZE)}
        columns = list(self.labels)[::-1] if len(self.labels) > 1 else list(self.labels)
        for place, prefix in enumerate(columns):
            found[prefix] = labels_of(path, rows[:, place], self.labels[prefix][1])
        return found

    def _pickled(self, path: Path) -> Parts:
        held = read_pickle(path)
        keys = {"data": "images"} | {key: prefix for prefix, (key, _) in self.labels.items()}
        if not isinstance(held, dict):
            raise wrong("file", f"{path} is no file of {self.name}: it holds a {type(held).__name__}, expected a dict")
        held = {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in held.items()}
        if missing := [key for key in keys if key not in held]:
            raise wrong("file", f"{path} is no file of {self.name}: it has no {missing[0]!r}")
        found = {keys[key]: _array(path, key, held[key]) for key in keys}
        images = found["images"]
        if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != _PIXELS:
            raise wrong(
                "file", f"{path}: 'data' has shape {list(images.shape)}, expected bytes of shape [images, 3072]"
            )
        if any(len(array) != len(images) for array in found.values()):
            raise wrong("file", f"{path} has not as many labels as images")
        labels = {prefix: labels_of(path, found[prefix], classes) for prefix, (_, classes) in self.labels.items()}
        return {"images": images.reshape(-1, *_SIZE), **labels}


def _array(path: Path, key: str, held: object) -> Array:
    try:
        array = np.asarray(held)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iu" or not array.ndim:
        raise wrong("file", f"{path}: {key!r} holds {str(held)[:40]!r}, expected whole numbers")
    return array


_TEN = _Version(
    "cifar10", ("cifar-10-batches-bin", "cifar-10-batches-py"),
    {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    {"": ("labels", 10)},
)  # fmt: skip
_HUNDRED = _Version(
    "cifar100", ("cifar-100-binary", "cifar-100-python"), {"train": ("train",), "test": ("test",)},
    {"": ("fine_labels", 100), "coarse_": ("coarse_labels", 20)},
)  # fmt: skip
_IMAGES = "(3, 32, 32), values 0 to 1"
_ORIGIN = (
    "its files, binary or for Python, are those of Krizhevsky's CIFAR page, University of Toronto; unpack the archive"
)

CIFAR10 = Dataset(
    "cifar10", "colour images of 32 x 32 in 10 classes: 50,000 train, 10,000 test",
    {"images": _IMAGES, "labels": "whole numbers 0 to 9", "one_hot": "(10,)"},
    _TEN.open, {"folder": folder_key("cifar10"), "split": split_key("train", "test")},
    origin=_ORIGIN, files=_TEN.sought, home="cifar10", paired=("split",),
)  # fmt: skip
CIFAR100 = Dataset(
    "cifar100", "colour images of 32 x 32 in 100 classes of 20 kinds: 50,000 train, 10,000 test",
    {"images": _IMAGES, "labels": "whole numbers 0 to 99", "one_hot": "(100,)",
     "coarse_labels": "whole numbers 0 to 19", "coarse_one_hot": "(20,)"},
    _HUNDRED.open, {"folder": folder_key("cifar100"), "split": split_key("train", "test")},
    origin=_ORIGIN, files=_HUNDRED.sought, home="cifar100", paired=("split",), rows=("one_hot", "coarse_one_hot"),
)  # fmt: skip
