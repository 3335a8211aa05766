"""What can go wrong, as a tree.

    PcsimError
    ├── InputError        what was asked for is wrong: a list of problems, exit code 2
    └── RunError          the run failed: exit code 1
        ├── DomainError   an op left its domain (square root of a negative number)
        └── NumberOverflowError  the dynamics grew beyond the number format

Low layers raise with the names they know; the document layer adds file, line and column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Path = tuple[str | int, ...]

EXITS = {
    0: "done",
    1: "the run failed, or what was made cannot be written",
    2: "the input is wrong: each problem is printed with its place and a remedy",
    130: "ended by Ctrl-C; what was recorded is kept",
    143: "ended by SIGTERM; what was recorded is kept",
}
"""What the exit codes of a command mean."""

MOST_SHOWN = 20
"""So many problems are written out in a message; the others are counted."""

MOST_CHARACTERS = 1000
"""So long is a problem when it is written out: a name, or what stands in the place of one, has no limit."""


class PcsimError(Exception):
    """Every error that pcsim raises on purpose."""

    exit_code: ClassVar[int] = 1
    """What a command exits with that it ends."""


@dataclass(frozen=True)
class Location:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (a path of keys), what, and how to mend it."""

    path: Path
    message: str
    location: Location | None = None

    def __str__(self) -> str:
        where = [str(self.location)] if self.location else []
        text = ": ".join([*where, *([dotted(self.path)] if self.path else []), self.message])
        return readable(text) if where else text

    def under(self, *prefix: str | int) -> Problem:
        """Return the same problem, seen from further out."""
        return replace(self, path=(*prefix, *self.path))


class InputError(PcsimError):
    """What was asked for is wrong; ``problems`` holds everything found, its message the first ``MOST_SHOWN``."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(shortened(self.problems)))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Problem, ...]]]:
        """Let a worker process hand the error on: pickle would give the message as the problems."""
        return type(self), (self.problems,)

    def map(self, change: Callable[[Problem], Problem]) -> InputError:
        """Return the same error with each problem changed (to add context at a boundary)."""
        return InputError(map(change, self.problems))


T = TypeVar("T")


class Attempts:
    """What goes on after a mistake, so that all of them are found: ``problems`` holds those so far."""

    problems: list[Problem]

    def attempt(self, step: Callable[[], T]) -> T | None:
        """Return what a step makes; None where something is wrong: its problems are kept."""
        try:
            return step()
        except InputError as error:
            self.problems += error.problems
            return None


class RunError(PcsimError):
    """A run that could not go on; ``run`` is the run up to there, None where nothing was recorded yet."""

    run: Any = None


class DomainError(RunError):
    """An op was given a value outside its domain."""


class NumberOverflowError(RunError):
    """Values or errors grew beyond what the number format holds."""


def shortened(problems: Sequence[object]) -> list[str]:
    """Return a line for each of the first problems, and one that counts the others.

    >>> shortened([Problem((), "no")] * 1022)[-2:]
    ['no', 'and 1,002 more like these']
    """
    more = len(problems) - MOST_SHOWN
    return [*map(str, problems[:MOST_SHOWN]), *([f"and {more:,} more like these"] if more > 0 else [])]


def readable(text: str) -> str:
    r"""Return a line with characters that do not show written out, and without its middle where it is too long.

    >>> readable("h\u202e")
    'h\\u202e'
    """
    if not text.isprintable():
        text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    half = MOST_CHARACTERS // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half]} ... {text[-half:]}"


def wrong(path: Path | str, message: str) -> InputError:
    """Return an InputError of one problem."""
    return InputError([Problem((path,) if isinstance(path, str) else path, message)])


def whole(value: Any) -> int:
    """Return a whole number, also one that is written 3.0 or 1e3 or is NumPy's; raises ValueError for any other.

    Truth values and text are no whole numbers.

    >>> whole(3.0)
    3
    """
    if not isinstance(value, bool):
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real) and float(value).is_integer():
            return int(float(value))
    raise ValueError("expected a whole number")


def dotted(path: Path) -> str:
    """Return a path as it reads in a message: ``vertices.h2.inputs[0]``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def nearest(name: str, legal: Iterable[str], hint: str = "") -> str:
    """Return '; did you mean ...?' for the nearest legal name, or a list of the legal ones.

    >>> nearest("tahn", ["tanh", "relu"], "pcsim list ops")
    "; did you mean 'tanh'? (pcsim list ops)"
    """
    return _nearest(str(name), tuple(map(str, legal))) + (f" ({hint})" if hint else "")


@lru_cache(maxsize=64)
def _nearest(name: str, legal: tuple[str, ...]) -> str:
    """Return what ``nearest`` does, without the hint; a slip is often repeated for thousands of vertices."""
    names = sorted(legal)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    # swapped letters are the commonest slip: 'tahn' means 'tanh', though 'tan' is as near
    close.sort(key=lambda other: sorted(other) != sorted(name))
    if close:
        return f"; did you mean {close[0]!r}?"
    if not names:
        return "; there are none"
    return "; known: " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def slip_of(name: str, legal: Iterable[str]) -> str | None:
    """Return the legal name that a name is a slip of; None where it is likely to be meant as it stands.

    >>> slip_of("dealy", ["delay", "slot"]), slip_of("colour", ["delay", "slot"])
    ('delay', None)
    """
    close = get_close_matches(name.lower(), list(legal), n=1, cutoff=0.8)
    return close[0] if close else None


def clipped(text: str, most: int = 120) -> str:
    """Return a text, cut where it is longer than a line shows."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
