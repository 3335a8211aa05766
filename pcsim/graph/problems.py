"""Pydantic's errors as problems: the path, what was expected, what was got, and the nearest legal key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from pcsim.errors import Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic_core import ErrorDetails

    from pcsim.errors import Path

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), "keys with values"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "string_type": "text",
    "bool_type": "true or false",
    "string_pattern_mismatch": "a name without spaces and without # > , /",
    "string_too_short": "a name",
    "string_too_long": "a name of at most 200 characters",
}


def problems_of(error: ValidationError, model: type[BaseModel], data: Any) -> list[Problem]:
    """Return one Problem for each place that a validation found wrong; ``data`` is what was validated."""
    found: dict[Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_path(detail, data), []).append(detail)
    outer = {path[:length] for path in found for length in range(len(path))}
    # where a kind is wrong, a union's other member may say what is wrong further inside
    return [
        Problem(path, _message(details, path, model))
        for path, details in found.items()
        if not (path in outer and _about_kind(details))
    ]


def valid_part(
    model: type[M], data: Any, part: Callable[[Path], Path], stand_ins: Mapping[str, Any] | None = None
) -> tuple[M | None, list[Problem]]:
    """Return the model of what is right in a document, and a problem for everything that is not.

    Parameters
    ----------
    part : the path to leave out where a path is wrong
    stand_ins : what takes the place of keys that a model cannot do without
    """
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        problems = problems_of(error, model, data)
    try:
        return model.model_validate(_without(data, {part(p.path) for p in problems}, stand_ins or {})), problems
    except ValidationError:
        return None, problems


def _without(data: Any, paths: Iterable[Path], stand_ins: Mapping[str, Any]) -> Any:
    if not isinstance(data, Mapping):
        return data
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    for path in sorted(paths, key=len):
        holder = kept.get(path[0]) if len(path) == 2 else kept
        if path and isinstance(holder, dict):
            holder.pop(path[-1], None)
    return {**{key: value for key, value in stand_ins.items() if key not in kept}, **kept}


def _path(detail: ErrorDetails, data: Any) -> Path:
    """Return the keys that are in the document, without those that pydantic adds for its own unions."""
    path: list[int | str] = []
    for key in detail["loc"]:
        if _holds(data, key):
            path.append(key)
            data = data[key]
    absent = detail["type"] == "missing" and isinstance(detail["loc"][-1], str)
    return (*path, detail["loc"][-1]) if absent else tuple(path)


def _holds(data: Any, key: int | str) -> bool:
    if isinstance(data, Mapping):
        return key in data
    return isinstance(data, list | tuple) and isinstance(key, int) and 0 <= key < len(data)


def _about_kind(details: list[ErrorDetails]) -> bool:
    return all(detail["type"].endswith(("_type", "literal_error")) for detail in details)


def _message(details: list[ErrorDetails], path: Path, model: type[BaseModel]) -> str:
    kind, got = details[0]["type"], details[0]["input"]
    if kind == "extra_forbidden":
        return f"unknown key {path[-1]!r}" + nearest(str(path[-1]), _keys_at(model, path[:-1]))
    if kind == "missing" and isinstance(details[0]["loc"][-1], int):
        return f"has too few entries, got {_short(got)}"
    if kind == "missing":
        return f"the key {path[-1]!r} is missing"
    if kind == "value_error":
        return details[0]["msg"].removeprefix("Value error, ")
    if kind == "greater_than_equal" and "delay" in path[-2:]:
        return f"a delay is a whole number of ticks, 0 or more, got {_short(got)}"
    texts = dict.fromkeys(_expected(detail) for detail in details)
    return f"expected {' or '.join(texts)}, got {_short(got)}"


def _expected(detail: ErrorDetails) -> str:
    if detail["type"] in _EXPECTED:
        return _EXPECTED[detail["type"]]
    if detail["type"] == "too_long":
        return f"at most {detail['ctx']['max_length']} entries"
    text = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"a number {text}" if text.startswith(("greater", "less")) else text


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
