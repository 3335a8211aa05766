"""Where data come from: numbers, lists, random draws, files, and data sets; opened, and then taken sample by sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from pcsim.documents.frozen_arrays import check_not_described
from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.graph.array_files import SUFFIXES, read_array
from pcsim.graph.problems import problems_of
from pcsim.ops.settings import settings
from pcsim.scenario.datasets import DATASETS
from pcsim.scenario.datasets.dataset import Draw, Opening, Places, Samples, at, check_labels, most, one_hot
from pcsim.scenario.datasets.idx_files import read_idx
from pcsim.scenario.scenario_document import DataEntry
from pcsim.scenario.table_files import TABLES, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.arrays import Shape
    from pcsim.graph.initialise import Generator
    from pcsim.scenario.datasets.dataset import Dataset

Array = np.ndarray

FLOAT64 = np.dtype(np.float64)


@dataclass(frozen=True)
class DataRequest:
    """What data are for: the shape of one sample, how many, and the random streams.

    Attributes
    ----------
    batch : how many samples a list in place has, and others have at least; None: whatever there are
    stream : (kind, shared) -> random stream, of the vertex or shared by all
    dry : only check that they fit; nothing is drawn, no data set is loaded
    split : the part of data sets that is read in place of what entries say; draws take other streams for it
    dtype : the number format that samples are rounded to in the end
    """

    shape: Shape
    batch: int | None
    stream: Callable[[str, bool], Generator]
    folder: Path
    dry: bool = False
    whole: bool = False
    """Whole numbers are asked for, which never pass through floating point."""
    read: dict[Any, Any] = field(default_factory=dict)
    """What has been read and opened, by where it is from: the steps of a sequence are all in one array."""
    split: str | None = None
    dtype: np.dtype[Any] = FLOAT64

    def once(self, source: Any, make: Callable[[], Any]) -> Any:
        """Return what a source is read as, when it is first asked for."""
        if source not in self.read:
            self.read[source] = make()
        return self.read[source]

    def exact(self, array: Array) -> Array:
        """Return numbers as they are asked for: whole ones and those in the right format as they are, or in float64."""
        return array if self.whole or array.dtype == self.dtype else array.astype(np.float64, copy=False)

    def drawn(self, kind: str, *, shared: bool = False) -> Generator:
        """Return a random stream of the samples of this split."""
        return self.stream(kind if self.split is None else f"{self.split} {kind}", shared)


@dataclass(frozen=True)
class Opened:
    """Data of one vertex, none of them taken yet.

    Attributes
    ----------
    count : how many samples there are, from the entry's ``start`` on; None: as many as are asked for
    take : places, counted from ``start`` on -> (places, *shape), in float64 or the format that is asked for, or whole
        numbers as they are
    late : whether taking them draws numbers or reads a data set
    at_hand : whether some of them are taken about as fast as they are copied, once the first are
    """

    count: int | None
    take: Callable[[Places], Array]
    late: bool = False
    at_hand: bool = False


def entry_of(source: Any) -> DataEntry:
    """Return a data source as an entry; numbers and lists stand for ``values``."""
    if not isinstance(source, dict):
        return DataEntry(values=source)
    try:
        check_not_described(source)
        entry = DataEntry.model_validate(source)
    except ValidationError as error:
        raise InputError([*problems_of(error, DataEntry, source), *_unknown_keys(source)]) from None
    except ValueError as error:
        raise wrong((), str(error)) from None
    if problems := _unknown_keys(source):
        raise InputError(problems)
    return entry


def _unknown_keys(source: dict[Any, Any]) -> list[Problem]:
    """Return a problem for each key that neither every entry has nor its data set; of unknown ones nothing is known."""
    name = source.get("dataset")
    row = DATASETS.get(name) if isinstance(name, str) else None
    if name is not None and row is None:
        return []
    own = row.keys if row else {}
    legal = [*(key for key in DataEntry.model_fields if row is None or key not in FILE_KEYS), *own]
    of = f" of data set {name!r}" if row else ""
    unknown = [key for key in source if key not in legal and not (row and key == "file" and source[key] is None)]
    return [Problem((str(key),), f"unknown key {key!r}{of}" + nearest(str(key), legal)) for key in unknown]


FILE_KEYS = ("file", "key", "columns")
"""Keys of entries that go with files of arrays, not with data sets; the data set ``text`` has a ``file`` of its own."""


def dataset_of(entry: DataEntry) -> tuple[Dataset, dict[str, Any]]:
    """Return the row that an entry names, with a value for each of its keys; raises InputError."""
    name = str(entry.dataset)
    if name not in DATASETS:
        raise wrong("dataset", f"unknown data set {name!r}" + nearest(name, DATASETS, "pcsim list datasets"))
    row = DATASETS[name]
    given = {key: value for key, value in entry.own_keys.items() if value is not None}
    return row, row.filled(settings(f"data set {name!r}", given, row.keys))


def load(entry: DataEntry, request: DataRequest) -> Array:
    """Return data as (batch, *shape), in float64 or, where whole numbers are asked for, as they are.

    Raises InputError where they do not fit.
    """
    opened, batch = open_data(entry, request), request.batch or 0
    if request.dry and opened.late:
        return np.broadcast_to(np.zeros(()), (batch, *request.shape))
    return opened.take(range(batch))


def open_data(entry: DataEntry, request: DataRequest) -> Opened:
    """Open the data of a vertex; raises InputError where they do not fit."""
    kinds = [key for key in _SOURCES if getattr(entry, key) is not None]
    if entry.dataset is not None and "file" in kinds:  # it is the data set's own
        kinds.remove("file")
    if len(kinds) != 1:
        raise wrong((), "data are a number, a list, or exactly one of normal, uniform, values, file, dataset")
    if entry.index is not None and kinds[0] in ("normal", "uniform"):
        raise wrong("index", f"{kinds[0]} draws one sample for each vertex; index goes with values, file and dataset")
    if entry.columns is not None and kinds[0] != "file":
        raise wrong("columns", f"goes with a file, and the data are {kinds[0]}")
    read = _SOURCES[kinds[0]]
    request = request if entry.scale == 1 else replace(request, dtype=FLOAT64)
    opened = read(entry, request) if entry.one_hot is None else _classes(read, entry, request, entry.one_hot)
    return replace(opened, take=partial(_taken, opened, entry))


def _taken(opened: Opened, entry: DataEntry, places: Places) -> Array:
    """Return samples, scaled; raises InputError for those that there are not."""
    if opened.count is not None and len(places) and (wanted := most(places)) > opened.count:
        raise _too_few(opened.count, entry, f"sample {wanted - 1}")
    with np.errstate(over="ignore"):  # What overflows is refused where it is rounded.
        array = opened.take(places)
        return array if entry.scale == 1 else array * entry.scale


def _too_few(count: int, entry: DataEntry, wanted: str) -> InputError:
    return wrong((), f"has {count + entry.start} samples, fewer than start {entry.start} + {wanted}")


def _classes(read: _Open, entry: DataEntry, request: DataRequest, classes: int) -> Opened:
    """Return labels as probabilities: with a 1 at each, along the last axis."""
    if request.shape[-1:] != (classes,):
        raise wrong("one_hot", f"makes samples of shape [..., {classes}], expected {list(request.shape)}")
    labels = read(entry, replace(request, shape=request.shape[:-1], whole=True))
    return replace(labels, take=lambda places: one_hot(labels.take(places), classes))


# -- in place ----------------------------------------------------------------------------------------------


def _in_place(entry: DataEntry, request: DataRequest) -> Opened:
    array = _numbers(entry.values, whole=request.whole)
    if entry.index is None:
        return _fit(array, request)
    axis = array.ndim - len(request.shape) - 1
    if axis not in (0, 1):
        steps = ", ".join(map(str, ("steps", *request.shape)))
        message = f"has shape {list(array.shape)}, expected [{steps}] or, a sample each, [{_many(request)}, {steps}]"
        raise wrong((), message)
    _step_shape(array.shape[axis:], entry)
    return _fit(array.take(entry.index, axis), request)


def _many(request: DataRequest) -> int | str:
    return "samples" if request.batch is None else request.batch


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


def _fit(array: Array, request: DataRequest) -> Opened:
    """Take one sample for all, or a sample for each."""
    if array.ndim == 0 or array.shape == request.shape:
        return _one_for_all(array, request)
    if array.shape[1:] != request.shape or request.batch not in (None, len(array)):
        each = f"[{', '.join(map(str, (_many(request), *request.shape)))}]"
        raise wrong((), f"has shape {list(array.shape)}, expected {list(request.shape)} or, a sample each, {each}")
    _refuse_split(request)
    return Opened(len(array), partial(at, array))


def _one_for_all(array: Array, request: DataRequest) -> Opened:
    return Opened(None, lambda places: np.broadcast_to(array, (len(places), *request.shape)))


def _refuse_split(request: DataRequest) -> None:
    if request.split is not None:
        raise wrong((), f"has no split {request.split!r}: say where samples start")


# -- draws -------------------------------------------------------------------------------------------------


def _normal(entry: DataEntry, request: DataRequest) -> Opened:
    mean, deviation = entry.normal or (0.0, 1.0)
    return _drawn(entry, request, "normal", lambda generator, full: generator.normal(mean, deviation, full))


def _uniform(entry: DataEntry, request: DataRequest) -> Opened:
    low, high = entry.uniform or (0.0, 1.0)
    return _drawn(entry, request, "uniform", lambda generator, full: generator.uniform(low, high, full))


def _drawn(
    entry: DataEntry, request: DataRequest, kind: str, draw: Callable[[Generator, tuple[int, ...]], Array]
) -> Opened:
    """Return draws: sample i depends on the seed, the vertex and i alone."""
    draws = Draw(lambda count: {kind: draw(request.drawn(kind), (count, *request.shape))})
    return Opened(None, lambda places: draws.take(kind, _after(entry.start, places)), late=True)


def _after(start: int, places: Places) -> Places:
    if isinstance(places, range):
        return range(places.start + start, places.stop + start, places.step)
    return np.asarray(places) + start


# -- data sets and files -----------------------------------------------------------------------------------


def _dataset(entry: DataEntry, request: DataRequest) -> Opened:
    row, given = dataset_of(entry)
    part = entry.field or next(iter(row.fields))
    if part not in row.fields:
        raise wrong("field", f"data set {row.name!r} has no field {part!r}" + nearest(part, row.fields))
    with row.remedy():
        samples = _samples(row, given, request)
    found = samples.fields[part]
    _check_shape(_step_shape(found.shape, entry), request)

    def take(places: Places) -> Array:
        with row.remedy():
            return found.take(places, entry.index, request.dtype)

    return replace(_in_order(samples.count, take, entry, request), at_hand=found.at_hand)


def _samples(row: Dataset, given: dict[str, Any], request: DataRequest) -> Samples:
    """Return a data set opened, once for all vertices that it feeds."""
    if request.split is not None and "split" in row.keys:
        given = {**given, "split": row.keys["split"].parse(request.split)} if _has_split(row, request) else given

    def opened() -> Samples:
        fixed = partial(_shared, request, row.name)
        drawn = partial(_shared_draw, request, row.name)
        return row.open(given, Opening(request.folder, fixed, drawn))

    samples: Samples = request.once(("dataset", row.name, request.split, *given.items()), opened)
    if samples.count is not None and "split" not in row.keys:
        _refuse_split(request)
    return samples


def _has_split(row: Dataset, request: DataRequest) -> bool:
    """Return true; raises InputError where a data set has no such split."""
    try:
        row.keys["split"].parse(request.split)
    except ValueError as error:
        raise wrong("split", f"data set {row.name!r} has no split {request.split!r}: {error}") from None
    return True


def _shared(request: DataRequest, name: str, kind: str) -> Generator:
    return request.stream(f"{name} {kind}", True)


def _shared_draw(request: DataRequest, name: str, kind: str) -> Generator:
    return request.drawn(f"{name} {kind}", shared=True)


def _file(entry: DataEntry, request: DataRequest) -> Opened:
    path = request.folder / str(entry.file)

    def read() -> Array:
        if path.suffix in TABLES or entry.columns is not None:
            return read_table(path, entry.key, entry.columns)
        return read_array(path, entry.key) if path.suffix in SUFFIXES else read_idx(path)

    samples = request.once((path, entry.key, str(entry.columns)), read)
    if entry.one_hot is not None:
        check_labels(samples, entry.one_hot)
    if entry.index is not None:
        axis = 0 if samples.shape[1:] == request.shape else 1
        _step_shape(samples.shape[axis:], entry)
        samples = samples.take(entry.index, axis)
    if samples.shape == request.shape:
        return _one_for_all(request.exact(samples), request)
    if not samples.ndim:
        raise wrong((), f"holds one number, expected samples of shape {list(request.shape)}")
    _check_shape(samples.shape[1:], request)
    _refuse_split(request)
    return replace(_in_order(len(samples), partial(at, samples), entry, request), late=False)


def _step_shape(shape: Shape, entry: DataEntry) -> Shape:
    """Return the shape of what is taken of a sample: the whole of it, or what is at ``index`` of its first axis."""
    if entry.index is None:
        return shape
    if not shape:
        raise wrong("index", "a sample is one number, which has no axis to take a place of")
    if entry.index >= shape[0]:
        raise wrong("index", f"expected less than {shape[0]}, the length of a sample's first axis, got {entry.index}")
    return shape[1:]


def _check_shape(shape: Shape, request: DataRequest) -> None:
    if prod(shape) != prod(request.shape):
        raise wrong((), f"a sample has shape {list(shape)}, expected {list(request.shape)}")


def _in_order(total: int | None, take: Callable[[Places], Array], entry: DataEntry, request: DataRequest) -> Opened:
    """Return samples from ``start`` on, in order or, shuffled, in one order for all of a scenario."""
    count = None if total is None else total - entry.start
    if count is not None and request.batch is not None and count < request.batch:
        raise _too_few(count, entry, f"batch {request.batch}")
    order = cache(lambda: request.stream("shuffle", True).permutation(total or 0))
    shuffled = entry.shuffle and total is not None

    def chosen(places: Places) -> Array:
        places = _after(entry.start, places)
        array = take(at(order(), places) if shuffled else places)
        return request.exact(array).reshape(len(places), *request.shape)

    return Opened(count, chosen, late=True)


_Open = Callable[[DataEntry, DataRequest], Opened]

_SOURCES: dict[str, _Open] = {
    "values": _in_place,
    "normal": _normal,
    "uniform": _uniform,
    "file": _file,
    "dataset": _dataset,
}
