"""Where data come from: numbers, lists, random draws, npz and IDX files, and known data sets."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from pcsim.arrays import Shape
from pcsim.errors import InputError, nearest, wrong
from pcsim.graph.initialise import Generator, read_npz
from pcsim.graph.problems import problems_of
from pcsim.scenario.models import DataEntry

Array = np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A known data set: a summary and one loader for each field, (samples, ...) arrays."""

    name: str
    summary: str
    fields: Mapping[str, Callable[[], Array]]


def _digits() -> Any:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise wrong("dataset", 'data set \'digits\' needs scikit-learn: pip install "pcsim[data]"') from None
    return load_digits()


def _mnist(name: str) -> Array:
    folder = Path(os.environ.get("PCSIM_DATA", "../shared/data")) / "mnist10k"
    if not folder.is_dir():
        raise wrong("dataset", f"data set 'mnist' is not in {folder}; set PCSIM_DATA to the folder that holds 'mnist10k'")
    return read_idx(next(folder.glob(f"*{name}*")))


def one_hot(labels: Array, classes: int) -> Array:
    """Return (samples, classes) with a 1 at each label."""
    return np.eye(classes)[labels.astype(int)]


DATASETS = {
    row.name: row
    for row in (
        Dataset("digits", "1,797 handwritten digits of 8 x 8, values 0 to 1 (ships with scikit-learn)", {
            "images": lambda: np.asarray(_digits().images) / 16,
            "labels": lambda: np.asarray(_digits().target),
            "one_hot": lambda: one_hot(np.asarray(_digits().target), 10),
        }),
        Dataset("mnist", "MNIST test images of 28 x 28, values 0 to 1, from the folder PCSIM_DATA/mnist10k", {
            "images": lambda: _mnist("images") / 255,
            "labels": lambda: _mnist("labels"),
            "one_hot": lambda: one_hot(_mnist("labels"), 10),
        }),
    )
}  # fmt: skip


def read_idx(path: Path) -> Array:
    """Return the array of an IDX file (the format of MNIST), gzipped or not; raises InputError."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError) as error:
        raise wrong("file", f"cannot read {path}: {error}") from None
    kinds = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in kinds:
        raise wrong("file", f"{path} is not an IDX file")
    shape = tuple(np.frombuffer(raw, ">u4", raw[3], 4).astype(int)) if len(raw) >= 4 + 4 * raw[3] else (-1,)
    kind = np.dtype(kinds[raw[2]])
    if len(raw) - 4 - 4 * raw[3] != prod(shape) * kind.itemsize:
        raise wrong("file", f"{path} is cut short: it says shape {list(map(int, shape))}")
    return np.frombuffer(raw, kind, offset=4 + 4 * raw[3]).reshape(shape)


@dataclass(frozen=True)
class Wanted:
    """What data are for: the shape of one sample, how many, and the random stream of the vertex."""

    shape: Shape
    batch: int
    stream: Callable[[str], Generator]
    folder: Path


def entry_of(source: Any) -> DataEntry:
    """Return a data source as an entry; numbers and lists stand for ``values``."""
    if not isinstance(source, dict):
        return DataEntry(values=source)
    try:
        return DataEntry.model_validate(source)
    except ValidationError as error:
        raise InputError(problems_of(error, DataEntry)) from None


def load(entry: DataEntry, wanted: Wanted) -> Array:
    """Return data as (batch, *shape) in float64; raises InputError where they do not fit."""
    kinds = [key for key in ("values", "normal", "uniform", "file", "dataset") if getattr(entry, key) is not None]
    if len(kinds) != 1:
        raise wrong((), "data are a number, a list, or exactly one of normal, uniform, file, dataset")
    if entry.values is not None:
        return _fit(_numbers(entry.values) * entry.scale, wanted)
    full = (wanted.batch, *wanted.shape)
    if entry.normal is not None:
        return wanted.stream("normal").normal(*entry.normal, full) * entry.scale
    if entry.uniform is not None:
        return wanted.stream("uniform").uniform(*entry.uniform, full) * entry.scale
    samples = _dataset(entry) if entry.dataset is not None else _file(entry, wanted)
    return _choose(samples, entry, wanted) * entry.scale


def _numbers(values: Any) -> Array:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise wrong((), f"expected numbers, got {str(values)[:60]!r}") from None
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise wrong((), "data must be finite numbers")
    return array


def _fit(array: Array, wanted: Wanted) -> Array:
    """Take one sample for the whole batch, or a sample for each."""
    full = (wanted.batch, *wanted.shape)
    if array.ndim == 0 or array.shape == wanted.shape:
        return np.broadcast_to(array, full)
    if array.shape != full:
        raise wrong((), f"has shape {list(array.shape)}, expected {list(wanted.shape)} or, a sample each, {list(full)}")
    return array


def _dataset(entry: DataEntry) -> Array:
    name, field = str(entry.dataset), entry.field or "images"
    if name not in DATASETS:
        raise wrong("dataset", f"unknown data set {name!r}" + nearest(name, DATASETS, "pcsim list datasets"))
    if field not in DATASETS[name].fields:
        raise wrong("field", f"data set {name!r} has no field {field!r}" + nearest(field, DATASETS[name].fields))
    return DATASETS[name].fields[field]()


def _file(entry: DataEntry, wanted: Wanted) -> Array:
    path = wanted.folder / str(entry.file)
    array = read_npz(str(path), entry.key) if path.suffix in (".npz", ".npy") else read_idx(path)
    return array if entry.one_hot is None else one_hot(array, entry.one_hot)


def _choose(samples: Array, entry: DataEntry, wanted: Wanted) -> Array:
    """Take ``batch`` samples from ``start`` on, in order or, shuffled, in one order for all of a scenario."""
    if samples.shape == wanted.shape and entry.file is not None:
        return np.broadcast_to(samples, (wanted.batch, *wanted.shape)).astype(np.float64)
    if prod(samples.shape[1:]) != prod(wanted.shape):
        raise wrong((), f"a sample has shape {list(samples.shape[1:])}, expected {list(wanted.shape)}")
    order = wanted.stream("shuffle").permutation(len(samples)) if entry.shuffle else np.arange(len(samples))
    chosen = order[entry.start : entry.start + wanted.batch]
    if len(chosen) < wanted.batch:
        raise wrong((), f"has {len(samples)} samples, fewer than start {entry.start} + batch {wanted.batch}")
    return samples[chosen].reshape(wanted.batch, *wanted.shape).astype(np.float64)
