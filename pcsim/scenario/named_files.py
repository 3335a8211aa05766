"""The files that a scenario names, each with a fingerprint of its content."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from hashlib import blake2b, file_digest
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from pcsim.scenario.data import DATASETS

if TYPE_CHECKING:
    from pathlib import Path

YOUNG = 2 * 10**9
"""Nanoseconds: a file that was changed so lately may change again without its time saying so."""

_KNOWN: dict[Path, tuple[tuple[int, int, int], str]] = {}
"""The fingerprints of files that have been read: a sweep asks for the same ones in every cell."""


def named_files(document: Any, folder: Path) -> dict[str, str]:
    """Return {file as a document names it: fingerprint of its content}; empty where there is no such file.

    Files of a data set are named ``mnist/FILE``. Paths are sought in ``folder``.
    """
    paths: dict[str, Path] = {}
    for key, name in _values(document, "file", "dataset"):
        if key == "file":
            paths[name] = folder / name
        elif name in DATASETS:
            paths |= {f"{name}/{path.name}": path for path in DATASETS[name].files()}
    return {name: fingerprint(path) for name, path in sorted(paths.items())}


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


def _values(data: Any, *keys: str) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of every text under one of these keys, however deep."""
    left = [data]
    while left:
        items = left.pop()
        pairs = items.items() if isinstance(items, Mapping) else enumerate(items)
        for key, value in pairs:
            if isinstance(value, str):
                if key in keys:
                    yield key, value
            elif isinstance(value, dict | list | tuple):
                left.append(value)
