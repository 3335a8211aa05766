"""Pydantic's errors in pcsim's words: the path, what was got, and the nearest legal key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from pcsim.errors import Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from pcsim.errors import Path


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return one Problem for each place that a validation found wrong."""
    found: dict[Path, Problem] = {}
    for detail in error.errors(include_url=False):
        path = tuple(_real_keys(detail["loc"]))
        found.setdefault(_place(path), Problem(path, _message(detail, path, model)))
    return list(found.values())


def _place(path: Path) -> Path:
    """One number may stand for both directions of a delay: it is wrong once."""
    return path[:-1] if len(path) > 1 and path[-2] == "delay" else path


def _real_keys(location: tuple[int | str, ...]) -> Iterator[int | str]:
    """Drop what pydantic adds to a path: names of union members, '[key]' markers."""
    for key in location:
        if not isinstance(key, str) or not (key.startswith(("function-", "[")) or key in _UNION_MEMBERS):
            yield key


_UNION_MEMBERS = {"float", "int", "str", "bool", "list[any]", "none", "literal"}


def _message(detail: ErrorDetails, path: Path, model: type[BaseModel]) -> str:
    kind, got = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return f"unknown key {path[-1]!r}" + nearest(str(path[-1]), _keys_at(model, path[:-1]))
    if kind == "missing":
        return f"the key {path[-1]!r} is missing"
    if kind == "greater_than_equal" and path and path[-1] in ("delay", "value", "error"):
        return f"a delay is a whole number of ticks, 0 or more, got {got!r}"
    text = detail["msg"].removeprefix("Value error, ")
    text = text.replace("Input should be", "expected").replace("valid ", "").replace("a integer", "a whole number")
    return text if kind == "value_error" else f"{text}, got {_short(got)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(model: type[BaseModel] | None, path: Path) -> list[str]:
    for key in path:
        if model is None:
            return []
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if isinstance(key, str) and key in fields:
            model = _model_in(fields[key].annotation)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation such as dict[str, Entry] or list[Entry] is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(inner) for inner in get_args(annotation))
    return next((model for model in found if model is not None), None)
