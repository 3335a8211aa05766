"""A text as characters: pieces of it, and the same pieces one character later."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pcsim.errors import wrong
from pcsim.ops.attributes import optional, positive
from pcsim.ops.op import Attribute
from pcsim.resources import check_file, check_room
from pcsim.scenario.datasets.dataset import Dataset, Field, Given, Opening, Samples, at, path, path_of

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.scenario.datasets.dataset import Places

Array = np.ndarray

HOME = "shakespeare/input.txt"


def read_text(file: Path) -> str:
    """Return the text of a file in UTF-8; raises InputError."""
    check_file(file)
    check_room(file, 8 * file.stat().st_size)
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise wrong("file", f"cannot read {file} as text in UTF-8: {error}") from None


def rows_of_codes(codes: Array, count: int) -> Array:
    """Return (*codes, count) with a 1 at each code."""
    return np.asarray(np.eye(count)[codes])


def _codes(text: str) -> tuple[Array, int]:
    """Return the number of each character among those of the text, sorted, and how many these are."""
    characters, codes = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    return codes.astype(np.min_scalar_type(len(characters))), len(characters)


def _file(given: Given, folder: Path) -> Path:
    return path_of(given["file"], HOME, folder)


def _open(given: Given, opening: Opening) -> Samples:
    file, length = _file(given, opening.folder), given["length"]
    codes, count = _codes(read_text(file))
    if len(codes) <= length or count < 2:
        raise wrong("file", f"{file} has {len(codes):,} characters, {count} different: too few for pieces of {length}")
    stride = given["stride"] or length

    def piece(shift: int, places: Places) -> Array:
        return at(sliding_window_view(codes[shift:], length)[::stride], places)

    fields = {}
    for shift, name in enumerate(("input", "target")):
        fields[f"{name}s"] = Field((length, count), partial(piece, shift), partial(rows_of_codes, count=count))
        fields[f"{name}_labels"] = Field((length,), partial(piece, shift))
    return Samples((len(codes) - 1 - length) // stride + 1, fields)


TEXT = Dataset(
    "text", "a text in pieces of equal length, character by character, in their order", {
        "inputs": "(length, characters), one-hot; characters are those of the text, sorted",
        "targets": "(length, characters), one-hot: for each the character that follows",
        "input_labels": "(length,), numbers of characters, from 0 on",
        "target_labels": "(length,), numbers of those that follow",
    }, _open, {
        "file": Attribute(optional(path), summary=f"a text file, in UTF-8; default: {HOME} in the folder PCSIM_DATA"),
        "length": Attribute(positive, 50, summary="characters of a sample"),
        "stride": Attribute(optional(positive), summary="characters from the start of a sample to that of the next; "
                            "default: length"),
    }, origin="tiny Shakespeare is data/tinyshakespeare/input.txt of the GitHub project karpathy/char-rnn",
    files=lambda given, folder: [_file(given, folder)], home=HOME, paired=("length", "stride"),
    rows=("inputs", "targets"),
)  # fmt: skip
