"""What an unquoted word in a document means: ``1e-3`` is a number, ``no`` is a word."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsim.documents.tree import Scalar

YAML_TAG = "tag:yaml.org,2002:"
_TAGS: dict[str, type] = {"int": int, "float": float, "bool": bool, "null": type(None)}
_CONSTANTS: dict[str, Scalar] = {
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


def plain_scalar(text: str) -> Scalar:
    """Read an unquoted scalar; ValueError for a number too large to hold."""
    word = text.lower() if len(text) <= 5 else text
    if word in _CONSTANTS:
        return _CONSTANTS[word]
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
        raise ValueError("a whole number has at most 18 digits; quote it if it is text, or write it as 1.5e20")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        msg = f"{text} is beyond the largest number (1.8e308); write .inf for infinity"
        raise ValueError(msg)
    return number


def tagged_scalar(text: str, tag: str) -> Scalar:
    """Read a scalar with a tag; raises ValueError for one that does not say what its tag says."""
    name = tag.removeprefix(YAML_TAG)
    if name in ("!", "str"):
        return text
    if name not in _TAGS:
        raise ValueError(tag_message(tag))
    value = plain_scalar(text)
    value = float(value) if name == "float" and type(value) is int else value
    if type(value) is not _TAGS[name]:
        msg = f"{text!r} is not what its tag !!{name} says"
        raise ValueError(msg)
    return value


def tag_message(tag: str) -> str:
    """Return what is wrong with a tag."""
    name = "!!" + tag.removeprefix(YAML_TAG) if tag.startswith(YAML_TAG) else tag
    return f"tag {name!r} is not allowed; a document holds only numbers, text, lists and maps"
