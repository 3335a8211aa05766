"""Reads YAML text into a tree in which every value and every key knows its place in the file.

Only parser events are read, so nothing in a file can construct an object, and a bomb of aliases is
counted, never unfolded. Scalars mean what a person means: ``1e-3`` is a number, ``no`` is a word.
"""

from __future__ import annotations

import re
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import yaml

from pcsim.documents.composer import Composer
from pcsim.errors import InputError, Location, Problem, nearest
from pcsim.garbage import uncollected

if TYPE_CHECKING:
    import os

    from pcsim.documents.tree import Node

MAX_BYTES = 64_000_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TOO_DEEP = re.compile("nest|depth|level")
_HINTS = (
    ("cannot start any token", "indent with spaces, not tabs, and quote text that starts with @, ` or %"),
    ("mapping values are not allowed", "check the indentation, and quote text that contains ': '"),
    ("end of stream", "a quote is not closed"),
    ("',' or", "a bracket is not closed, or a comma is missing"),
    ("", "check the indentation and the brackets, here and on the line above"),
)


def read(path: str | os.PathLike[str]) -> Node:
    """Read a YAML file.

    Raises
    ------
    InputError
        When there is no such file, it is larger than 64 MB or not UTF-8, or its text is refused by `parse`.
    """
    return parse(_decode(_contents(FilePath(path)), str(path)), str(path))


@uncollected()
def parse(text: str, file: str) -> Node:
    """Read YAML text; ``file`` is the name that locations carry.

    Raises
    ------
    InputError
        With file, line and column: bad syntax, duplicate keys, tags, merge keys, keys that are not
        names or whole numbers, several documents, nesting deeper than 100, aliases that blow up.
    """
    text = text.removeprefix("\ufeff")
    if bad := _CONTROL.search(text):
        message = f"character {bad[0]!r} is not allowed in a document; delete it, or quote it as \\x.. or \\u...."
        raise InputError([Problem((), message, _location(text[: bad.start()], file))])
    try:
        return _composed(text, file, _LOADER)
    except yaml.MarkedYAMLError as error:
        raise InputError([_syntax_problem(error, file)]) from None


def _composed(text: str, file: str, loader: Any) -> Node:
    try:
        return Composer(yaml.parse(text, Loader=loader), file).document()
    except yaml.MarkedYAMLError as error:
        # a scanner that reads ahead may have a limit of its own: then the one without says where ours is passed
        if loader is yaml.SafeLoader or not _TOO_DEEP.search(str(error.problem)):
            raise
        return _composed(text, file, yaml.SafeLoader)


def _contents(path: FilePath) -> bytes:
    try:
        if not path.is_file():
            raise InputError([Problem((), f"{path}: {_why_no_file(path)}")])
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError([Problem((), f"{path}: cannot be read: {error.strerror}")]) from None
    if len(data) > MAX_BYTES:
        raise InputError([Problem((), f"{path}: larger than {MAX_BYTES // 10**6} MB; keep arrays in .npz files")])
    return data


def _why_no_file(path: FilePath) -> str:
    if path.exists():
        return "is a folder, not a file" if path.is_dir() else "is not a plain file"
    return "no such file" + nearest(path.name, (other.name for other in path.parent.glob("*.yaml")))


def _decode(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace").removeprefix("\ufeff")
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save {file} as UTF-8"
        raise InputError([Problem((), message, _location(before, file))]) from None


def _location(before: str, file: str) -> Location:
    lines = re.split("\r\n|\r|\n", before)
    return Location(file, len(lines), len(lines[-1]) + 1)


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark, text = error.problem_mark, error.problem or "not YAML"
    location = Location(file, mark.line + 1, mark.column + 1) if mark else None
    hint = next(hint for part, hint in _HINTS if part in text)
    since = f" (begun on line {error.context_mark.line + 1})" if error.context_mark else ""
    context = f" {error.context}{since}" if error.context else ""
    return Problem((), f"not valid YAML: {text}{context}; {hint}", location)
