"""Names by their origin, letter by letter: a folder of text files, a name a line."""

from __future__ import annotations

import string
import unicodedata
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pcsim.errors import wrong
from pcsim.ops.attributes import optional, positive
from pcsim.ops.op import Attribute
from pcsim.scenario.datasets.dataset import (
    Dataset,
    Field,
    Given,
    Opening,
    Samples,
    Stored,
    check_folder,
    folder_key,
    label_fields,
    path_of,
)
from pcsim.scenario.datasets.text_corpus import read_text, rows_of_codes

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray

LETTERS = string.ascii_letters + " .,;'"
"""The letters that names are made of, as in the PyTorch tutorial; code 0 is no letter."""


def folded(name: str) -> str:
    """Return a name without accents, and without what is none of ``LETTERS``.

    >>> folded("Ślusàrski")
    'Slusarski'
    """
    return "".join(letter for letter in unicodedata.normalize("NFD", name) if letter in LETTERS)


def _files(given: Given, folder: Path) -> list[Path]:
    return sorted(path_of(given["folder"], "names", folder).glob("*.txt"))


def _names(file: Path) -> list[str]:
    found = [name for line in read_text(file).splitlines() if (name := folded(line.strip()))]
    if not found:
        raise wrong("file", f"{file} holds no name: expected one a line")
    return found


def _codes(names: list[str], length: int) -> Array:
    """Return (names, length) codes of letters: cut and filled up in front, so that all end on their last letter."""
    codes = np.zeros((len(names), length), np.uint8)
    for row, name in zip(codes, names, strict=True):
        last = [LETTERS.index(letter) + 1 for letter in name[-length:]]
        row[length - len(last) :] = last
    return codes


def _open(given: Given, opening: Opening) -> Samples:
    folder = path_of(given["folder"], "names", opening.folder)
    check_folder("names", folder)
    files = _files(given, opening.folder)
    if len(files) < 2:
        raise wrong("folder", f"{folder} holds {len(files)} files NAME.txt, expected one for each origin")
    lists = [_names(file) for file in files]
    names = [name for listed in lists for name in listed]
    length = given["length"] or max(map(len, names))
    codes = Stored(partial(_codes, names, length))
    labels = Stored(lambda: np.repeat(np.arange(len(lists)), list(map(len, lists))))
    origins = label_fields(labels, len(lists))
    return Samples(len(names), {
        "letters": Field((length, len(LETTERS)), codes, lambda raw: rows_of_codes(raw, len(LETTERS) + 1)[..., 1:]),
        "origin": origins["one_hot"],
        "labels": origins["labels"],
        "letter_labels": Field((length,), codes),
    })  # fmt: skip


NAMES = Dataset(
    "names", "family names and where they are from, in the order of the files: use shuffle", {
        "letters": "(length, 57), a row with a 1 for each letter; rows of zeros in front of short names",
        "origin": "(origins,), one-hot; origins are the sorted names of the files",
        "labels": "number of the origin, from 0 on",
        "letter_labels": "(length,), 1 to 57 for each letter, 0 in front of short names",
    }, _open, {
        "folder": folder_key("names"),
        "length": Attribute(optional(positive), summary="letters of a name: it is cut, or filled up, in front; "
                            "default: those of the longest"),
    }, origin="its files are data/names of the PyTorch tutorial that classifies names with a character-level RNN",
    files=_files, home="names", rows=("origin",),
)  # fmt: skip
