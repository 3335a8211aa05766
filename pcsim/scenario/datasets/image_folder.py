"""A folder of images, in which a folder for each class has the images of it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.graph.array_files import BROKEN, reason
from pcsim.ops.attributes import choice, optional, shape
from pcsim.ops.op import Attribute
from pcsim.resources import check_file
from pcsim.scenario.datasets.dataset import (
    Dataset,
    Given,
    Opening,
    Samples,
    Stored,
    check_folder,
    image_fields,
    path,
    path_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.arrays import Shape
    from pcsim.scenario.datasets.dataset import Places

Array = np.ndarray

NAME = "image-folder"
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
_PARTS = {"train", "test", "val", "valid", "validation"}
_BROKEN = (*BROKEN, IndexError, AttributeError, Warning)


def _size(value: Any) -> Shape:
    found = shape.parse(value)
    if len(found) != 2:
        raise ValueError("expected [height, width]")
    return found


class Images:
    """The images of a folder, each decoded when it is first taken; kept as bytes."""

    def __init__(self, files: list[tuple[Path, int]], size: Shape | None, mode: str) -> None:
        self.files, self.size, self.mode = files, size, mode
        self._kept: dict[int, Array] = {}

    def shape(self) -> Shape:
        """Return the shape of all: what is asked for, or that of the first."""
        height, width = self.size or self._opened(self.files[0][0], lambda image: (image.height, image.width))
        return (height, width) if self.mode == "L" else (3, height, width)

    def take(self, places: Places) -> Array:
        """Return (places, *shape), as bytes."""
        return np.stack([self._image(int(place)) for place in places]) if len(places) else np.zeros((0, *self.shape()))

    def _image(self, place: int) -> Array:
        if place not in self._kept:
            self._kept[place] = self._decoded(self.files[place][0])
        return self._kept[place]

    def _decoded(self, file: Path) -> Array:
        array: Array = self._opened(file, self._pixels)
        array = array if self.mode == "L" else array.transpose(2, 0, 1)
        wanted = self.shape()
        if array.shape != wanted:
            got, first = (" x ".join(map(str, each[-2:])) for each in (array.shape, wanted))
            hint = f"give size: [{', '.join(first.split(' x '))}], to which all are scaled"
            raise wrong("file", f"{file} is {got}, expected {first} as {self.files[0][0].name}; {hint}")
        return array

    def _pixels(self, image: Any) -> Array:
        if image.mode[:1] in "IF":
            message = f"its pixels have more than 8 bits (mode {image.mode})"
            raise ValueError(message)
        image = image.convert(self.mode)
        if self.size is not None:
            image = image.resize(self.size[::-1], resample=2)  # bilinear
        return np.asarray(image)

    def _opened(self, file: Path, read: Any) -> Any:
        from PIL import Image  # which Matplotlib brings

        check_file(file)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with Image.open(file) as image:
                    return read(image)
        except (*_BROKEN, Image.DecompressionBombError) as error:
            raise wrong("file", f"cannot read the image {file}: {reason(error)}") from None


def _root(given: Given, folder: Path) -> Path:
    root = path_of(given["folder"], "", folder)
    return root / given["split"] if given["split"] else root


def _classes(root: Path) -> list[Path]:
    return sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))


def _files(given: Given, folder: Path) -> list[Path]:
    root = _root(given, folder)
    return [path for path, _ in _labelled(_classes(root))] if root.is_dir() else []


def _labelled(classes: list[Path]) -> list[tuple[Path, int]]:
    """Return each image with the number of its class, in the order of names."""
    return [
        (path, number)
        for number, folder in enumerate(classes)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in ENDINGS
    ]


def _open(given: Given, opening: Opening) -> Samples:
    root = _root(given, opening.folder)
    check_folder(NAME, root)
    classes = _classes(root)
    names = {each.name.lower() for each in classes}
    if names and names <= _PARTS:
        raise wrong("folder", f"{root} holds {', '.join(sorted(names))}: say which with 'split'")
    files = _labelled(classes)
    if len(classes) < 2 or not files:
        expected = f"expected a folder for each class with images in it ({', '.join(ENDINGS[:3])}, ...)"
        raise wrong("folder", f"{root} has {len(classes)} folders and {len(files)} images: {expected}")
    images = Images(files, given["size"], "L" if given["colour"] == "grey" else "RGB")
    labels = Stored(lambda: np.array([label for _, label in files]))
    return Samples(len(files), image_fields(images.shape(), images.take, labels, len(classes)))


IMAGE_FOLDER = Dataset(
    NAME, "images of your own, a folder for each class; the sorted names of these folders are the classes", {
        "images": "(3, height, width), or (height, width) where grey; values 0 to 1",
        "labels": "whole numbers from 0 on",
        "one_hot": "(classes,)",
    }, _open, {
        "folder": Attribute(path, required=True, summary="the folder that holds a folder for each class"),
        "split": Attribute(optional(path), summary="a folder in it, such as train, that holds those of the classes"),
        "size": Attribute(optional(_size), summary="[height, width] to scale all to; default: that of the first"),
        "colour": Attribute(choice("colours", ("rgb", "grey")), "rgb", summary="rgb, or grey for one channel"),
    }, files=_files, paired=("split",),
)  # fmt: skip
