"""YAML text into a tree in which every value and every key knows its place in the file.

Only parser events are read, so nothing in a file can construct an object, and a bomb of aliases is
counted, never unfolded. Scalars mean what a person means: ``1e-3`` is a number, ``no`` is a word.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import yaml

from pcsim.errors import InputError, Location, Path, Problem, nearest, wrong

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

Scalar = None | bool | int | float | str
Key = str | int

MAX_BYTES = 64_000_000
MAX_DEPTH = 100
MAX_ALIASED = 100_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_YAML = "tag:yaml.org,2002:"
_TAGS: dict[str, type] = {"int": int, "float": float, "bool": bool, "null": type(None)}
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null")),
    "true": True,
    "false": False,
    **dict.fromkeys((".inf", "+.inf"), math.inf),
    "-.inf": -math.inf,
    ".nan": math.nan,
}
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_WHOLE = re.compile(rf"[-+]?{_DIGITS}")
_BASED = re.compile(r"[-+]?0(?:x[0-9a-f]+|o[0-7]+|b[01]+)", re.IGNORECASE)
_REAL = re.compile(rf"[-+]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:e[-+]?[0-9]+)?", re.IGNORECASE)
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HINTS = (
    ("cannot start any token", "indent with spaces, not tabs, and quote text that starts with @, ` or %"),
    ("mapping values are not allowed", "check the indentation, and quote text that contains ': '"),
    ("end of stream", "a quote is not closed"),
    ("',' or", "a bracket is not closed, or a comma is missing"),
    ("", "check the indentation and the brackets, here and on the line above"),
)


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document: a scalar, a list (``items``) or a map (``entries``), and where it stands."""

    value: Scalar = None
    location: Location | None = None
    items: tuple[Node, ...] | None = None
    entries: Mapping[Key, Entry] | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether this is neither a list nor a map."""
        return self.items is None and self.entries is None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a map: the key, its place, and the value."""

    key: Key
    value: Node
    location: Location | None = None


def read(path: str | os.PathLike[str]) -> Node:
    """Read a YAML file.

    Raises
    ------
    InputError
        When there is no such file, it is larger than 64 MB or not UTF-8, or its text is refused by `parse`.
    """
    return parse(_decode(_contents(FilePath(path)), str(path)), str(path))


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
        message = (
            f"character {bad[0]!r} is not allowed in a document; delete it, or quote it as \\x.. or \\u...."
        )
        raise InputError([Problem((), message, _place(text[: bad.start()], file))])
    try:
        return _Composer(yaml.parse(text, Loader=_LOADER), file).document()
    except yaml.MarkedYAMLError as error:
        raise InputError([_syntax_problem(error, file)]) from None


def plain(node: Node) -> Any:
    """Return a node as ordinary Python data."""
    if node.items is not None:
        return [plain(item) for item in node.items]
    if node.entries is not None:
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    return node.value


def locate(node: Node, path: Path, *, key: bool = False) -> Location | None:
    """Return the place of what a path of keys leads to, or of its nearest existing ancestor.

    A scalar is placed at its value, a list or map at the key that holds it; with ``key`` the last
    element of the path is itself what is wrong, and its own place is returned.
    """
    place = node.location
    for index, step in enumerate(path, 1):
        inner = _inner(node, step)
        if inner is None:
            return place
        node = inner.value
        at_value = node.is_scalar and not (key and index == len(path))
        place = node.location if at_value else inner.location
    return place


def from_plain(data: Any, file: str = "<python>", location: Location | None = None) -> Node:
    """Build a tree from Python data: None, bool, int, float, str, list, tuple, dict, NumPy values.

    Parameters
    ----------
    data : what a document would hold.
    file : where the data came from, for messages.
    location : given to every node and key; by default they have none.

    Raises
    ------
    InputError
        For other types, keys that are not names or whole numbers, and nesting deeper than 100.
    """
    return _from_plain(data, (), file, location)


def _from_plain(data: Any, path: Path, file: str, location: Location | None) -> Node:
    if len(path) > MAX_DEPTH:
        raise wrong(path[:3], f"{file}: nested deeper than {MAX_DEPTH}")
    if isinstance(data, np.ndarray | np.generic):
        data = data.tolist()
    if isinstance(data, list | tuple):
        items = (_from_plain(item, (*path, index), file, location) for index, item in enumerate(data))
        return Node(location=location, items=tuple(items))
    if isinstance(data, dict):
        return Node(location=location, entries=_entries_from_plain(data, path, file, location))
    if data is None or isinstance(data, bool | int | float | str):
        return Node(data, location)
    raise wrong(
        path, f"{file}: a document cannot hold a {type(data).__name__}; use numbers, text, lists and dicts"
    )


def _entries_from_plain(
    data: dict[Any, Any], path: Path, file: str, location: Location | None
) -> dict[Key, Entry]:
    for key in data:
        if not _is_key(key):
            raise wrong(path, f"{file}: key {key!r} is a {type(key).__name__}; use text or a whole number")
    return {
        key: Entry(key, _from_plain(value, (*path, key), file, location), location)
        for key, value in data.items()
    }


def _inner(node: Node, step: Key) -> Entry | None:
    if node.entries is not None:
        return node.entries.get(step)
    if node.items is not None and isinstance(step, int) and 0 <= step < len(node.items):
        return Entry(step, node.items[step], node.items[step].location)
    return None


def _is_key(key: object) -> bool:
    return isinstance(key, str | int) and not isinstance(key, bool)


def _contents(path: FilePath) -> bytes:
    try:
        if not path.is_file():
            raise InputError([Problem((), f"{path}: {_why_no_file(path)}")])
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError([Problem((), f"{path}: cannot be read: {error.strerror}")]) from None
    if len(data) > MAX_BYTES:
        raise InputError(
            [Problem((), f"{path}: larger than {MAX_BYTES // 10**6} MB; keep arrays in .npz files")]
        )
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
        raise InputError([Problem((), message, _place(before, file))]) from None


def _place(before: str, file: str) -> Location:
    lines = re.split("\r\n|\r|\n", before)
    return Location(file, len(lines), len(lines[-1]) + 1)


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark, text = error.problem_mark, error.problem or "not YAML"
    hint = next(hint for part, hint in _HINTS if part in text)
    since = f" (begun on line {error.context_mark.line + 1})" if error.context_mark else ""
    context = f" {error.context}{since}" if error.context else ""
    place = Location(file, mark.line + 1, mark.column + 1) if mark else None
    return Problem((), f"not valid YAML: {text}{context}; {hint}", place)


def _plain_scalar(text: str) -> Scalar:
    """Read an unquoted scalar; ValueError for a number too large to hold."""
    word = text.lower() if len(text) <= 5 else text
    if word in _WORDS:
        return _WORDS[word]
    if text[0] not in "+-.0123456789":
        return text
    if _WHOLE.fullmatch(text):
        return _whole(text)
    if _BASED.fullmatch(text):
        return _bounded(int(text, 0))
    return _finite(text) if _REAL.fullmatch(text) else text


def _whole(text: str) -> int:
    digits = text.lstrip("+-").replace("_", "").lstrip("0")
    # Counted before int(), which is slow (and limited) on very long digit strings.
    return _bounded(10**18) if len(digits) > 18 else int(text)


def _bounded(number: int) -> int:
    if abs(number) >= 10**18:
        raise ValueError(
            "a whole number has at most 18 digits; quote it if it is text, or write it as 1.5e20"
        )
    return number


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        msg = f"{text} is beyond the largest number (1.8e308); write .inf for infinity"
        raise ValueError(msg)
    return number


def _tagged_scalar(text: str, tag: str) -> Scalar:
    name = tag.removeprefix(_YAML)
    if name in ("!", "str"):
        return text
    if name not in _TAGS:
        raise ValueError(_tag_message(tag))
    value = _plain_scalar(text)
    value = float(value) if name == "float" and type(value) is int else value
    if type(value) is not _TAGS[name]:
        msg = f"{text!r} is not what its tag !!{name} says"
        raise ValueError(msg)
    return value


def _tag_message(tag: str) -> str:
    name = "!!" + tag.removeprefix(_YAML) if tag.startswith(_YAML) else tag
    return f"tag {name!r} is not allowed; a document holds only numbers, text, lists and maps"


@dataclass(frozen=True, slots=True)
class _Anchor:
    """What an anchor names, and how large and deep it is with its aliases unfolded."""

    node: Node
    size: int
    height: int


class _Composer:
    """Builds the tree from parser events, counting what aliases stand for."""

    def __init__(self, events: Iterator[Any], file: str) -> None:
        self.events = events
        self.file = file
        self.problems: list[Problem] = []
        self.anchors: dict[str, _Anchor | None] = {}  # None: still open
        self.count = self.aliased = self.deepest = 0

    def document(self) -> Node:
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return Node(None, Location(self.file, 1, 1))
        node = self.node(next(self.events), 0)
        next(self.events)
        if not isinstance(event := next(self.events), yaml.StreamEndEvent):
            self.stop(event, "a second document begins; keep one document per file")
        if self.problems:
            raise InputError(self.problems)
        return node

    def node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self.stop(event, f"nested deeper than {MAX_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, depth)
        return self.anchored(event, depth) if event.anchor else self.fresh(event, depth)

    def fresh(self, event: Any, depth: int) -> Node:
        self.count += 1
        self.deepest = max(self.deepest, depth)
        if isinstance(event, yaml.ScalarEvent):
            return Node(self.scalar(event), self.at(event))
        if isinstance(event, yaml.SequenceStartEvent):
            self.check_tag(event, "seq")
            return Node(location=self.at(event), items=tuple(self.items(depth + 1)))
        self.check_tag(event, "map")
        return Node(location=self.at(event), entries=self.entries(depth + 1))

    def anchored(self, event: Any, depth: int) -> Node:
        count, deepest = self.count, self.deepest
        self.anchors[event.anchor], self.deepest = None, depth
        node = self.fresh(event, depth)
        self.anchors[event.anchor] = _Anchor(node, self.count - count, self.deepest - depth)
        self.deepest = max(deepest, self.deepest)
        return node

    def alias(self, event: Any, depth: int) -> Node:
        anchor = self.anchors.get(event.anchor)
        if anchor is None:
            known = nearest(event.anchor, (name for name, made in self.anchors.items() if made))
            inside = event.anchor in self.anchors
            what = (
                "stands inside what it names" if inside else f"has no anchor &{event.anchor} above it{known}"
            )
            self.stop(event, f"alias *{event.anchor} {what}")
        self.count += anchor.size
        self.aliased += anchor.size
        self.deepest = max(self.deepest, depth + anchor.height)
        if self.aliased > MAX_ALIASED or self.deepest > MAX_DEPTH:
            limit = (
                f"to more than {MAX_ALIASED} values"
                if self.aliased > MAX_ALIASED
                else f"deeper than {MAX_DEPTH}"
            )
            self.stop(event, f"aliases unfold {limit}; use args and for instead")
        return anchor.node

    def items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            yield self.node(event, depth)

    def entries(self, depth: int) -> dict[Key, Entry]:
        entries: dict[Key, Entry] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, depth)
            value = self.node(next(self.events), depth)
            if key in entries:
                self.note(event, f"key {key!r} is already given at {entries[key].location}; keep one of them")
            elif key is not None:
                entries[key] = Entry(key, value, self.at(event))
        return entries

    def key(self, event: Any, depth: int) -> Key | None:
        if not isinstance(event, yaml.ScalarEvent):
            self.stop(
                event, "a key must be a name or a whole number; quote text that starts with [, {, & or *"
            )
        if event.value == "<<" and not event.style:
            self.note(event, "merge keys (<<) are not supported; write the entries out, or use args")
            return None
        found = len(self.problems)
        value = self.node(event, depth).value
        if isinstance(value, str | int) and not isinstance(value, bool):
            return value
        if found == len(self.problems):
            self.note(event, f"a key must be a name or a whole number; quote it: '{event.value}'")
        return None

    def scalar(self, event: Any) -> Scalar:
        try:
            if event.tag is not None:
                return _tagged_scalar(event.value, event.tag)
            return event.value if event.style else _plain_scalar(event.value)
        except ValueError as error:
            self.note(event, str(error))
            return None

    def check_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", _YAML + kind):
            self.note(event, _tag_message(event.tag))

    def at(self, event: Any) -> Location:
        return Location(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def note(self, event: Any, message: str) -> None:
        self.problems.append(Problem((), message, self.at(event)))

    def stop(self, event: Any, message: str) -> NoReturn:
        self.note(event, message)
        raise InputError(self.problems)
