"""The files that a scenario names, each with a fingerprint of its content."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from hashlib import blake2b, file_digest
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError
from pcsim.scenario.data import dataset_of, entry_of
from pcsim.scenario.datasets import DATASETS

if TYPE_CHECKING:
    from pathlib import Path

YOUNG = 2 * 10**9
"""Nanoseconds: a file that was changed so lately may change again without its time saying so."""

_KNOWN: dict[Path, tuple[tuple[int, int, int], str]] = {}
"""The fingerprints of files that have been read: a sweep asks for the same ones in every cell."""


MOST_FILES = 32
"""A data set of more files than this has one fingerprint for all of them."""


def named_files(document: Any, folder: Path) -> dict[str, str]:
    """Return {file as a document names it: fingerprint of its content}; empty where there is no such file.

    Files of a data set are named ``mnist/FILE``, or by its folder too; many files have one fingerprint. Paths are
    sought in ``folder``.
    """
    found: dict[str, str] = {}
    for part in _mappings(document):
        if isinstance(part.get("dataset"), str) and part["dataset"] in DATASETS:
            found |= _of_dataset(part, folder)
        elif isinstance(part.get("file"), str):
            found[part["file"]] = fingerprint(folder / part["file"])
    return dict(sorted(found.items()))


def _of_dataset(entry: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the fingerprints of the files that an entry reads; none where the entry is wrong."""
    try:
        row, given = dataset_of(entry_of(dict(entry)))
    except InputError:
        return {}
    where = given.get("folder") or given.get("file")
    prefix = f"{row.name}/{where}" if where else row.name
    files = row.files(given, folder)
    parents = [str(path.parent) for path in files]
    names = [path.relative_to(os.path.commonpath(parents)).as_posix() for path in files]
    prints = {f"{prefix}/{name}": fingerprint(path) for name, path in zip(names, files, strict=True)}
    if len(prints) <= MOST_FILES:
        return prints
    text = "\0".join(f"{name} {content}" for name, content in prints.items())
    return {prefix: blake2b(text.encode(), digest_size=16).hexdigest()}


def fingerprint(path: Path) -> str:
    """Return a fingerprint of the content of a file (blake2b, 32 hex digits); empty where it cannot be read."""
    try:
        about = path.stat()
        if not S_ISREG(about.st_mode):  # a pipe would give its content once, a device for ever
            return ""
        mark = (about.st_ino, about.st_size, about.st_mtime_ns)
        if path in _KNOWN and _KNOWN[path][0] == mark:
            return _KNOWN[path][1]
        with path.open("rb") as stream:
            digest = file_digest(stream, lambda: blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""
    if time.time_ns() - about.st_mtime_ns > YOUNG:
        _KNOWN[path] = mark, digest
    return digest


def _mappings(data: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping, however deep."""
    left = [data]
    while left:
        items = left.pop()
        if isinstance(items, Mapping):
            yield items
        values = items.values() if isinstance(items, Mapping) else items
        left += [value for value in values if isinstance(value, dict | list | tuple)]
