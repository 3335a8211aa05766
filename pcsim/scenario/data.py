"""Where data come from: numbers, lists, random draws, npz and IDX files, and known data sets."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from pcsim.documents.frozen_arrays import check_not_described
from pcsim.errors import InputError, nearest, wrong
from pcsim.graph.array_files import SUFFIXES, read_array
from pcsim.graph.problems import problems_of
from pcsim.resources import check_file, check_room, install
from pcsim.scenario.scenario_document import DataEntry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedIOBase

    from pcsim.arrays import Shape
    from pcsim.graph.initialise import Generator

Array = np.ndarray


@dataclass(frozen=True)
class Field:
    """One array of a data set: (samples, *shape)."""

    shape: Shape
    load: Callable[[], Array]


@dataclass(frozen=True)
class Dataset:
    """A known data set: what it is, how many samples, and its fields, so that misfits show before it is loaded."""

    name: str
    summary: str
    samples: int
    fields: Mapping[str, Field]
    files: Callable[[], list[Path]] = list
    """Where it lies, if that is for the user to say; what comes with a library is as its version says."""


@cache
def _digits() -> Array:
    """Return scikit-learn's file: a row for each digit, 64 numbers of 0 to 16 and the label."""
    # to import scikit-learn for this file takes 1.2 s
    found = find_spec("sklearn")
    folders = found.submodule_search_locations if found else None
    if not folders or not (path := Path(folders[0], "datasets/data/digits.csv.gz")).is_file():
        raise wrong("dataset", f"data set 'digits' needs scikit-learn: {install('data')}")
    return np.loadtxt(path, delimiter=",")


def _mnist_folder() -> Path:
    return Path(os.environ.get("PCSIM_DATA", "../shared/data")) / "mnist10k"


def _mnist(name: str) -> Array:
    folder = _mnist_folder()
    found = sorted(folder.glob(f"*{name}*"))
    if not found:
        message = f"data set 'mnist' is not in {folder}; set PCSIM_DATA to the folder that holds 'mnist10k'"
        raise wrong("dataset", message)
    return read_idx(found[0])


def one_hot(labels: Array, classes: int) -> Array:
    """Return (samples, classes) with a 1 at each label."""
    _check_labels(labels, classes)
    return np.asarray(np.eye(classes)[labels.astype(int)])


def _check_labels(labels: Array, classes: int) -> None:
    if labels.dtype.kind not in "biu" and (labels != np.floor(labels)).any():
        raise wrong("one_hot", "expected labels that are whole numbers")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        message = f"labels go from {labels.min()} to {labels.max()}, expected 0 to {classes - 1} for {classes} classes"
        raise wrong("one_hot", message)


_DIGITS = Dataset(
    "digits", "1,797 handwritten digits of 8 x 8, values 0 to 1, or levels 0 to 16 (ships with scikit-learn)", 1797, {
        "images": Field((8, 8), lambda: _digits()[:, :-1].reshape(-1, 8, 8) / 16),
        "levels": Field((8, 8), lambda: _digits()[:, :-1].reshape(-1, 8, 8).astype(int)),
        "labels": Field((), lambda: _digits()[:, -1].astype(int)),
        "one_hot": Field((10,), lambda: one_hot(_digits()[:, -1], 10)),
    },
)  # fmt: skip
_MNIST = Dataset(
    "mnist", "MNIST test images of 28 x 28, values 0 to 1, from the folder PCSIM_DATA/mnist10k", 10_000, {
        "images": Field((28, 28), lambda: _mnist("images") / 255),
        "labels": Field((), lambda: _mnist("labels")),
        "one_hot": Field((10,), lambda: one_hot(_mnist("labels"), 10)),
    }, lambda: sorted(_mnist_folder().glob("*")),
)  # fmt: skip
DATASETS = {row.name: row for row in (_DIGITS, _MNIST)}


_GZIP = b"\x1f\x8b"
_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path) -> Array:
    """Return the array of an IDX file (the format of MNIST), gzipped or not; raises InputError."""
    check_file(path)
    try:
        with path.open("rb") as plain, gzip.open(plain) if plain.peek(2)[:2] == _GZIP else plain as stream:
            return _idx(path, stream)
    except (OSError, EOFError, zlib.error) as error:
        raise wrong("file", f"cannot read {path}: {error}") from None


def _idx(path: Path, stream: BufferedIOBase) -> Array:
    """Return the array of an IDX file; no more of the file is read than its head says that there is."""
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _KINDS:
        raise wrong("file", f"{path} is not an IDX file")
    kind, sizes = np.dtype(_KINDS[head[2]]), stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise wrong("file", f"{path} is cut short: it has no shape")
    shape = tuple(int.from_bytes(sizes[place : place + 4], "big") for place in range(0, len(sizes), 4))
    wanted = prod(shape) * kind.itemsize
    check_room(path, wanted)
    raw = stream.read(wanted + 1)
    if len(raw) != wanted:
        held = f"{len(raw)} bytes" if len(raw) < wanted else f"more than {wanted} bytes"
        raise wrong("file", f"{path} is cut short, or too long: it holds {held} and says shape {list(shape)}")
    return np.frombuffer(raw, kind).reshape(shape)


@dataclass(frozen=True)
class DataRequest:
    """What data are for: the shape of one sample, how many, and the random stream of the vertex.

    ``dry``: only check that they fit; nothing is drawn, no data set is loaded.
    """

    shape: Shape
    batch: int
    stream: Callable[[str], Generator]
    folder: Path
    dry: bool = False
    whole: bool = False
    """Whole numbers are asked for, which never pass through floating point."""
    read: dict[Any, Array] = field(default_factory=dict)
    """What has been read, by where it is from: the steps of a sequence are all in one array."""

    def once(self, source: Any, make: Callable[[], Array]) -> Array:
        """Return the array of a source, read when it is first asked for."""
        if source not in self.read:
            self.read[source] = make()
        return self.read[source]

    def exact(self, array: Array) -> Array:
        """Return numbers as they are asked for: whole ones as they are, others in float64."""
        return array if self.whole else array.astype(np.float64)

    @property
    def full(self) -> Shape:
        """The shape of the data: (batch, *shape)."""
        return (self.batch, *self.shape)


def entry_of(source: Any) -> DataEntry:
    """Return a data source as an entry; numbers and lists stand for ``values``."""
    if not isinstance(source, dict):
        return DataEntry(values=source)
    try:
        check_not_described(source)
        return DataEntry.model_validate(source)
    except ValidationError as error:
        raise InputError(problems_of(error, DataEntry, source)) from None
    except ValueError as error:
        raise wrong((), str(error)) from None


def load(entry: DataEntry, request: DataRequest) -> Array:
    """Return data as (batch, *shape), in float64 or, where whole numbers are asked for, as they are.

    Raises InputError where they do not fit.
    """
    kinds = [key for key in _SOURCES if getattr(entry, key) is not None]
    if len(kinds) != 1:
        raise wrong((), "data are a number, a list, or exactly one of normal, uniform, values, file, dataset")
    if entry.index is not None and kinds[0] in ("normal", "uniform"):
        raise wrong("index", f"{kinds[0]} draws one sample for each vertex; index goes with values, file and dataset")
    with np.errstate(over="ignore"):  # What overflows is refused where it is rounded.
        read = _SOURCES[kinds[0]]
        array = read(entry, request) if entry.one_hot is None else _classes(read, entry, request, entry.one_hot)
        return array if entry.scale == 1 else array * entry.scale


def _classes(read: _Read, entry: DataEntry, request: DataRequest, classes: int) -> Array:
    """Return labels as probabilities: with a 1 at each, along the last axis."""
    if request.shape[-1:] != (classes,):
        raise wrong("one_hot", f"makes samples of shape [..., {classes}], expected {list(request.shape)}")
    labels = read(entry, replace(request, shape=request.shape[:-1], whole=True))
    return np.broadcast_to(np.zeros(()), request.full) if request.dry else one_hot(labels, classes)


def _in_place(entry: DataEntry, request: DataRequest) -> Array:
    array = _numbers(entry.values, whole=request.whole)
    if entry.index is None:
        return _fit(array, request)
    axis = array.ndim - len(request.shape) - 1
    if axis not in (0, 1):
        steps = ", ".join(map(str, ("steps", *request.shape)))
        message = f"has shape {list(array.shape)}, expected [{steps}] or, a sample each, [{request.batch}, {steps}]"
        raise wrong((), message)
    _step_shape(array.shape[axis:], entry)
    return _fit(array.take(entry.index, axis), request)


def _normal(entry: DataEntry, request: DataRequest) -> Array:
    if request.dry:
        return _fit(np.zeros(()), request)
    mean, deviation = entry.normal or (0.0, 1.0)
    return request.stream("normal").normal(mean, deviation, request.full)


def _uniform(entry: DataEntry, request: DataRequest) -> Array:
    if request.dry:
        return _fit(np.zeros(()), request)
    low, high = entry.uniform or (0.0, 1.0)
    return request.stream("uniform").uniform(low, high, request.full)


def _numbers(values: Any, *, whole: bool = False) -> Array:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise wrong((), f"expected numbers in lists of equal lengths, got {str(values)[:60]}") from None
    if array.dtype.kind not in "iuf":
        raise wrong((), f"expected numbers, got {str(values)[:60]!r}")
    if not np.isfinite(array).all():
        raise wrong((), "data must be finite numbers")
    return array if whole else array.astype(np.float64)


def _fit(array: Array, request: DataRequest) -> Array:
    """Take one sample for the whole batch, or a sample for each."""
    full = request.full
    if array.ndim == 0 or array.shape == request.shape:
        return np.broadcast_to(array, full)
    if array.shape != full:
        raise wrong(
            (), f"has shape {list(array.shape)}, expected {list(request.shape)} or, a sample each, {list(full)}"
        )
    return array


def _dataset(entry: DataEntry, request: DataRequest) -> Array:
    name, part = str(entry.dataset), entry.field or "images"
    if name not in DATASETS:
        raise wrong("dataset", f"unknown data set {name!r}" + nearest(name, DATASETS, "pcsim list datasets"))
    if part not in DATASETS[name].fields:
        raise wrong("field", f"data set {name!r} has no field {part!r}" + nearest(part, DATASETS[name].fields))
    row = DATASETS[name].fields[part]
    _check_samples((DATASETS[name].samples, *_step_shape(row.shape, entry)), entry, request)
    if request.dry:
        return _fit(np.zeros(()), request)
    return _choose(request.once((name, part), row.load), entry, request)


def _file(entry: DataEntry, request: DataRequest) -> Array:
    path = request.folder / str(entry.file)

    def read() -> Array:
        return read_array(path, entry.key) if path.suffix in SUFFIXES else read_idx(path)

    array = request.once((path, entry.key), read)
    if entry.one_hot is not None:
        _check_labels(array, entry.one_hot)
    return _choose(array, entry, request)


def _step_shape(shape: Shape, entry: DataEntry) -> Shape:
    """Return the shape of what is taken of a sample: the whole of it, or what is at ``index`` of its first axis."""
    if entry.index is None:
        return shape
    if not shape:
        raise wrong("index", "a sample is one number, which has no axis to take a place of")
    if entry.index >= shape[0]:
        raise wrong("index", f"expected less than {shape[0]}, the length of a sample's first axis, got {entry.index}")
    return shape[1:]


def _check_samples(shape: Shape, entry: DataEntry, request: DataRequest) -> None:
    """Refuse samples of another shape, and too few of them."""
    if not shape or prod(shape[1:]) != prod(request.shape):
        raise wrong((), f"a sample has shape {list(shape[1:])}, expected {list(request.shape)}")
    if shape[0] < entry.start + request.batch:
        raise wrong((), f"has {shape[0]} samples, fewer than start {entry.start} + batch {request.batch}")


def _choose(samples: Array, entry: DataEntry, request: DataRequest) -> Array:
    """Take ``batch`` samples from ``start`` on, in order or, shuffled, in one order for all of a scenario."""
    if entry.index is not None:
        axis = 0 if samples.shape[1:] == request.shape and entry.file is not None else 1
        _step_shape(samples.shape[axis:], entry)
        samples = samples.take(entry.index, axis)
    if samples.shape == request.shape and entry.file is not None:
        return np.broadcast_to(request.exact(samples), request.full)
    _check_samples(samples.shape, entry, request)
    order = request.stream("shuffle").permutation(len(samples)) if entry.shuffle else np.arange(len(samples))
    chosen = order[entry.start : entry.start + request.batch]
    return request.exact(samples[chosen].reshape(request.full))


_Read = Callable[[DataEntry, DataRequest], Array]

_SOURCES: dict[str, _Read] = {
    "values": _in_place,
    "normal": _normal,
    "uniform": _uniform,
    "file": _file,
    "dataset": _dataset,
}
