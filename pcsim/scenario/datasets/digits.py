"""The digits that ship with scikit-learn: the data set that is always at hand."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pcsim.errors import wrong
from pcsim.resources import install
from pcsim.scenario.datasets.dataset import Dataset, Field, Given, Opening, Samples, Stored, label_fields

if TYPE_CHECKING:
    Array = np.ndarray

COUNT = 1797


@cache
def _digits() -> Array:
    """Return scikit-learn's file: a row for each digit, 64 numbers of 0 to 16 and the label."""
    # to import scikit-learn for this file takes 1.2 s
    found = find_spec("sklearn")
    folders = found.submodule_search_locations if found else None
    if not folders or not (path := Path(folders[0], "datasets/data/digits.csv.gz")).is_file():
        raise wrong("dataset", f"data set 'digits' needs scikit-learn: {install('data')}")
    return np.loadtxt(path, delimiter=",")


def _open(_: Given, __: Opening) -> Samples:
    levels = Stored(lambda: _digits()[:, :-1].reshape(-1, 8, 8))
    labels = Stored(lambda: _digits()[:, -1].astype(int))
    return Samples(COUNT, {
        "images": Field((8, 8), levels, divisor=16),
        "levels": Field((8, 8), levels, lambda raw: raw.astype(int)),
        **label_fields(labels, 10),
    })  # fmt: skip


DIGITS = Dataset(
    "digits", "1,797 handwritten digits of 8 x 8 (ships with scikit-learn)", {
        "images": "(8, 8), values 0 to 1",
        "levels": "(8, 8), grey levels, whole numbers 0 to 16",
        "labels": "whole numbers 0 to 9",
        "one_hot": "(10,)",
    }, _open, origin="scikit-learn; UCI: Optical Recognition of Handwritten Digits",
)  # fmt: skip
