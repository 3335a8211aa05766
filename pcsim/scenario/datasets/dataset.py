"""What a data set is: a row with its fields and its keys, which is opened for the settings of an entry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, Problem, wrong
from pcsim.ops.attributes import choice, optional, takes
from pcsim.ops.op import Attribute

if TYPE_CHECKING:
    from pcsim.arrays import Shape
    from pcsim.graph.initialise import Generator

Array = np.ndarray
Given = Mapping[str, Any]
"""The settings of an entry: a value for each key of the data set."""

Places = range | Array
"""Which samples: their numbers, counted from 0."""

Draws = Callable[[str], "Generator"]
"""Returns the random stream of a name."""


def at(array: Array, places: Places) -> Array:
    """Return (places, *shape): some samples of an array, without a copy where they are next to each other."""
    if isinstance(places, range) and places.step == 1:
        array = array[places.start : places.stop]
    else:
        array = array[np.asarray(places)]
    return array


class Stored:
    """Takes samples of an array, which is read when it is first asked for and then kept."""

    def __init__(self, read: Callable[[], Array]) -> None:
        self._whole = cache(read)

    def __call__(self, places: Places) -> Array:
        """Return (places, *shape), as they are stored."""
        return at(self._whole(), places)


class Draw:
    """Samples that are drawn in order, as many as have been asked for.

    Sample i is the same however many are drawn: ``draw(count)`` returns arrays whose first samples are those of any
    smaller count.
    """

    def __init__(self, draw: Callable[[int], Mapping[str, Array]]) -> None:
        self._draw, self._count, self._arrays = draw, 0, dict[str, Array]()

    def take(self, name: str, places: Places) -> Array:
        """Return some samples of one of the arrays that are drawn."""
        wanted = most(places)
        if wanted > self._count:
            self._count = max(wanted, 2 * self._count)
            self._arrays = dict(self._draw(self._count))
        return at(self._arrays[name], places)


def most(places: Places) -> int:
    """Return how many samples there must be, for the last of some places to be among them."""
    return int(max(places) if isinstance(places, range) and places else np.max(places, initial=-1)) + 1


@dataclass(frozen=True)
class Field:
    """One array of an opened data set: (samples, *shape).

    Attributes
    ----------
    shape : of one sample
    raw : places -> numbers as they are stored, (places, *first axes of shape)
    made : such numbers -> values, each by itself; in place of one may stand a row
    divisor : in place of ``made``: values are such numbers divided by it, rounded once
    """

    shape: Shape
    raw: Callable[[Places], Array]
    made: Callable[[Array], Array] = lambda raw: raw
    divisor: int | None = None

    @property
    def at_hand(self) -> bool:
        """Whether some samples are taken about as fast as they are copied, once the first are."""
        return self.divisor is not None and isinstance(self.raw, Stored)

    def take(self, places: Places, index: int | None = None, dtype: Any = np.float64) -> Array:
        """Return (places, *shape), or of each sample what is at ``index`` of its first axis.

        ``dtype`` is the number format of what is divided.
        """
        raw = self.raw(places)
        if self.divisor is not None:
            raw = raw if index is None else raw[:, index]
            divided: Array = np.divide(raw, np.dtype(dtype).type(self.divisor), dtype=dtype)
            divided.flags.writeable = False
            return divided
        if index is None:
            return self.made(raw)
        return self.made(raw[:, index]) if raw.ndim > 1 else self.made(raw)[:, index]


@dataclass(frozen=True)
class Samples:
    """An opened data set: how many samples it has, None where they have no end, and its fields."""

    count: int | None
    fields: Mapping[str, Field]


@dataclass(frozen=True)
class Opening:
    """What a data set is opened with.

    Attributes
    ----------
    folder : relative paths are sought here
    fixed : random streams of what all samples share, such as the weights of a network
    drawn : random streams of the samples themselves: those of another split are others
    """

    folder: Path
    fixed: Draws
    drawn: Draws


@dataclass(frozen=True)
class Dataset:
    """A known data set, or a task whose samples are drawn.

    Attributes
    ----------
    fields : {field: what it holds, with shape, unit and range}; the first is taken where none is named
    open : (settings, opening) -> its samples; reads no more than shapes and counts, where a file says them
    keys : what an entry may say of it
    origin : where its files can be had, or the paper that a task is from
    files : (settings, folder) -> the files that it is read from
    home : where its files are sought below PCSIM_DATA when an entry names no folder; empty where it has none
    paired : keys in which all entries of a scenario must agree, for they decide which sample is which
    rows : fields with a 1 at one place of their last axis, as probabilities of classes are
    """

    name: str
    summary: str
    fields: Mapping[str, str]
    open: Callable[[Given, Opening], Samples]
    keys: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    origin: str = ""
    files: Callable[[Given, Path], list[Path]] = lambda _, __: []
    home: str = ""
    paired: tuple[str, ...] = ()
    rows: tuple[str, ...] = ("one_hot",)

    def filled(self, given: Given) -> dict[str, Any]:
        """Return a value for each key: the one that is given, or its default."""
        return {name: given.get(name, row.default) for name, row in self.keys.items()}

    @contextmanager
    def remedy(self) -> Iterator[None]:
        """Let what is wrong with a file end with where the files can be had."""
        try:
            yield
        except InputError as error:
            raise error.map(self._with_origin) from None

    def _with_origin(self, problem: Problem) -> Problem:
        about_files = self.origin and problem.path[:1] in (("file",), ("folder",))
        return replace(problem, message=f"{problem.message}; {self.origin}") if about_files else problem


# -- keys that several have --------------------------------------------------------------------------------


@takes(type="string")
def path(value: Any) -> str:
    """Return the path of a file or a folder."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected the path of a folder or a file")
    return value


def folder_key(home: str) -> Attribute:
    """Return the key for the folder that holds the files of a data set."""
    return Attribute(optional(path), summary=f"the folder of its files; default: {home} in the folder PCSIM_DATA")


def split_key(*splits: str) -> Attribute:
    """Return the key for the part of a data set that is read."""
    return Attribute(choice("a split", splits), splits[0], summary=f"which part of it: {', '.join(splits)}")


# -- where files lie ---------------------------------------------------------------------------------------


def home_folder() -> Path:
    """Return the folder of data sets whose own folder is not named: PCSIM_DATA."""
    return Path(os.environ.get("PCSIM_DATA", "../shared/data")).expanduser()


def path_of(given: str | None, home: str, folder: Path) -> Path:
    """Return where a file or folder lies: as an entry says, seen from ``folder``, or at ``home`` in PCSIM_DATA."""
    return home_folder() / home if given is None else folder / Path(given).expanduser()


def check_folder(name: str, folder: Path, key: str = "folder") -> None:
    """Raise InputError where there is no such folder."""
    if not folder.is_dir():
        raise wrong(key, f"data set {name!r} is not in {folder}: there is no such folder")


# -- images and labels -------------------------------------------------------------------------------------

IMAGES = "values 0 to 1"


def image_fields(shape: Shape, images: Callable[[Places], Array], labels: Callable[[Places], Array], classes: int) -> (
    dict[str, Field]
):  # fmt: skip
    """Return the fields of images that are stored as bytes, and of their labels."""
    return {"images": Field(shape, images, divisor=255), **label_fields(labels, classes)}


def label_fields(labels: Callable[[Places], Array], classes: int, prefix: str = "") -> dict[str, Field]:
    """Return the fields of labels: whole numbers from 0 on, and a row with a 1 for each."""
    rows = partial(one_hot, classes=classes)
    return {f"{prefix}labels": Field((), labels), f"{prefix}one_hot": Field((classes,), labels, rows)}


def one_hot(labels: Array, classes: int) -> Array:
    """Return (*labels, classes) with a 1 at each label; raises InputError for what is no label."""
    check_labels(labels, classes)
    return np.asarray(np.eye(classes)[labels.astype(int)])


def check_labels(labels: Array, classes: int) -> None:
    """Raise InputError where labels are no whole numbers from 0 to below ``classes``."""
    if labels.dtype.kind not in "biu" and (labels != np.floor(labels)).any():
        raise wrong("one_hot", "expected labels that are whole numbers")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        message = f"labels go from {labels.min()} to {labels.max()}, expected 0 to {classes - 1} for {classes} classes"
        raise wrong("one_hot", message)


def labels_of(file: Path, labels: Array, classes: int) -> Array:
    """Return the labels of a file; raises InputError that names it where they are none."""
    try:
        check_labels(labels, classes)
    except InputError as error:
        raise wrong("file", f"{file}: {error.problems[0].message}") from None
    return labels


def check_pairs(images: Path, count: int, labels: Path, others: int) -> None:
    """Raise InputError where there are not as many labels as images."""
    if count != others:
        raise wrong("file", f"{images} holds {count:,} images, and {labels.name} {others:,} labels")
