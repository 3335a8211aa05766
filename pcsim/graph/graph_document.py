"""The graph document as validated data (``pcsim: graph/1``), after its ``$`` are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from pcsim.documents.frozen_arrays import FrozenArray, as_lists, check_not_described, frozen_numbers
from pcsim.errors import whole
from pcsim.graph.channels import CHANNEL_KINDS, Acts, Channel
from pcsim.graph.names import MOST_CHARACTERS, PATTERN
from pcsim.ops.attributes import MOST_TICKS


def _whole(value: Any) -> int:
    try:
        return whole(value)
    except ValueError as error:
        raise PydanticCustomError("int_type", "expected a whole number") from error


WHOLE = BeforeValidator(_whole)
"""Comes last among what annotates a whole number: the JSON Schema has bounds only where they stand before it."""

Whole = Annotated[int, WHOLE]
"""A whole number, also written 3.0 or 1e3; truth values and text are none."""

Delay = Annotated[int, Field(ge=0, le=MOST_TICKS), WHOLE]
Size = Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


def _as_text(name: Any) -> Any:
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


def _visible(name: str) -> str:
    if not name.isprintable():
        hidden = next(each for each in name if not each.isprintable())
        msg = f"expected a name of characters that show, without U+{ord(hidden):04X}"
        raise ValueError(msg)
    return name


_Text = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS, pattern=PATTERN)]
Name = Annotated[_Text, AfterValidator(_visible), BeforeValidator(_as_text, json_schema_input_type=_Text | int)]


def _spread(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] < 0:
        msg = f"expected [mean, standard deviation], the second 0 or more, got {list(pair)}"
        raise ValueError(msg)
    return pair


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] < pair[0]:
        msg = f"expected [low, high], the second no less than the first, got {list(pair)}"
        raise ValueError(msg)
    return pair


Normal = Annotated[tuple[Number, Number], AfterValidator(_spread)]
Interval = Annotated[tuple[Number, Number], AfterValidator(_ordered)]


def listed_in(what: str, *also: str) -> Any:
    """Mark text as one of the names that ``pcsim list`` has under ``what``, or one of ``also``; schemas name them."""
    return Field(json_schema_extra={"x-list": [what, *also]})


class Strict(BaseModel):
    """A part of a document: unknown keys are refused, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DelayEntry(Strict):
    """Ticks that messages travel over an edge, in each direction."""

    value: Delay = Field(default=0, description="ticks that a value travels forward")
    error: Delay = Field(default=0, description="ticks that an error travels back, beside the one that each edge takes")


def _both_ways(delay: Any) -> Any:
    return {"value": delay, "error": delay} if not isinstance(delay, dict) else delay


BOTH = "one for both directions, or one each"
Chance = Annotated[float, Field(strict=True, ge=0, lt=1)]
Threshold = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Bits = Annotated[int, Field(ge=2, le=16), WHOLE]
Quantised = Literal["sign", "ternary"] | Bits


class JitterEntry(Strict):
    """Extra ticks in each direction."""

    value: Delay = Field(default=0, description="most extra ticks of a value")
    error: Delay = Field(default=0, description="most extra ticks of an error")


class LossOfMessagesEntry(Strict):
    """Chances in each direction."""

    value: Chance = Field(default=0.0, description="chance that a value is lost")
    error: Chance = Field(default=0.0, description="chance that an error is lost")


class QuantiseEntry(Strict):
    """Formats of numbers in each direction."""

    value: Quantised | None = Field(default=None, description="of values; default: as they are")
    error: Quantised | None = Field(default=None, description="of errors; default: as they are")


class ThresholdEntry(Strict):
    """Thresholds in each direction."""

    value: Threshold | None = Field(default=None, description="of values; default: sent at every tick")
    error: Threshold | None = Field(default=None, description="of errors; default: sent at every tick")


class ChannelEntry(Strict):
    """What happens to the messages of an edge, beside their delay."""

    jitter: Annotated[JitterEntry, BeforeValidator(_both_ways, json_schema_input_type=Delay | JitterEntry)] = Field(
        default=JitterEntry(), description=f"extra ticks, drawn for each tick: 0 to so many; {BOTH}"
    )
    loss: Annotated[
        LossOfMessagesEntry, BeforeValidator(_both_ways, json_schema_input_type=Chance | LossOfMessagesEntry)
    ] = Field(default=LossOfMessagesEntry(), description=f"chance that a message does not arrive; {BOTH}")
    quantise: Annotated[
        QuantiseEntry, BeforeValidator(_both_ways, json_schema_input_type=Quantised | QuantiseEntry)
    ] = Field(default=QuantiseEntry(), description=f"bits of each number (2 to 16), ternary or sign; {BOTH}")
    threshold: Annotated[
        ThresholdEntry, BeforeValidator(_both_ways, json_schema_input_type=Threshold | ThresholdEntry)
    ] = Field(
        default=ThresholdEntry(),
        description=f"units send only what differs from what they sent last by more than this; {BOTH}",
    )

    def channels(self) -> tuple[Channel | None, Channel | None]:
        """Return the channel of values and that of errors; None where messages are delivered as they are."""
        if self.model_fields_set.isdisjoint(CHANNEL_KINDS):
            return None, None
        entries = {key: getattr(self, key) for key in CHANNEL_KINDS}
        value, error = (
            Channel(**{key: getattr(entry, way) for key, entry in entries.items()}) for way in ("value", "error")
        )
        return (None if value == Channel() else value), (None if error == Channel() else error)


class ActsEntry(Strict):
    """When a vertex acts: sends and moves."""

    every: Annotated[int, Field(ge=1, le=MOST_TICKS), WHOLE] = Field(default=1, description="only every n-th tick")
    offset: Delay = Field(default=0, description="the first tick at which it acts")
    chance: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        default=1.0, description="chance that it acts at such a tick"
    )

    def row(self, name: str = "") -> Acts | None:
        """Return the entry as a row; None where the vertex acts at every tick."""
        found = Acts(self.every, self.offset, self.chance)
        return None if found == Acts() else replace(found, name=name)


class InputEntry(ChannelEntry):
    """One input of a vertex: where it comes from, how long it travels, and what happens to it on the way."""

    source: Name = Field(alias="from", description="the vertex that this input comes from")
    delay: Annotated[DelayEntry, BeforeValidator(_both_ways, json_schema_input_type=Delay | DelayEntry)] = Field(
        default=DelayEntry(), description="whole ticks: one number for both directions, or one each"
    )


def _from(entry: Any) -> Any:
    return {"from": entry} if isinstance(entry, str | int) else entry


Input = Annotated[InputEntry, BeforeValidator(_from, json_schema_input_type=Name | InputEntry)]


def _frozen(values: Any) -> FrozenArray | None:
    """Return numbers as an array that never changes; None, which is not given, as it is."""
    check_not_described(values)
    return None if values is None else frozen_numbers(values)


class InitEntry(Strict):
    """How a parameter starts: exactly one of these keys (``key`` goes with ``file``)."""

    values: Annotated[Any, AfterValidator(_frozen)] = Field(default=None, description="numbers, in lists or an array")
    constant: Number | None = Field(default=None, description="one number for all elements")
    normal: Normal | None = Field(default=None, description="drawn: [mean, standard deviation]")
    uniform: Interval | None = Field(default=None, description="drawn, equally likely: [low, high]")
    uniform_fan_in: dict[str, Any] | None = Field(
        default=None,
        max_length=0,
        description="drawn, uniform within +-1/sqrt(fan-in), as PyTorch's linear layer; write {}",
    )
    glorot: dict[str, Any] | None = Field(
        default=None, max_length=0, description="drawn, uniform within +-sqrt(6/(fan-in + fan-out)); write {}"
    )
    he: dict[str, Any] | None = Field(
        default=None, max_length=0, description="drawn, normal with standard deviation sqrt(2/fan-in); write {}"
    )
    orthogonal: dict[str, Any] | None = Field(
        default=None, max_length=0, description="a random matrix with orthogonal rows or columns; write {}"
    )
    connect: dict[str, Any] | None = Field(
        default=None, max_length=0, description="the weights of the file that 'connect' of a projection reads; write {}"
    )
    file: str | None = Field(default=None, description="a file of arrays: .npz, .npy or .safetensors")
    key: str | None = Field(default=None, description="with file: the name of the array in it")

    @model_validator(mode="after")
    def _exactly_one(self) -> InitEntry:
        kinds = self.model_fields_set - {"key"}
        if len(kinds) != 1:
            message = f"an init has exactly one of {', '.join(k for k in InitEntry.model_fields if k != 'key')}"
            raise ValueError(message)
        kind = next(iter(kinds))
        if kind in ("values", "constant", "normal", "uniform", "file") and getattr(self, kind) is None:
            message = f"{kind!r} has no value"
            raise ValueError(message)
        return self

    def row(self) -> tuple[str, Any]:
        """Return the initialiser as (kind, argument)."""
        kind = next(iter(self.model_fields_set - {"key"}))
        if kind == "file":
            return kind, (self.file, self.key)
        given = getattr(self, kind)
        # An empty mapping says nothing, and rows are compared and hashed.
        return kind, None if isinstance(given, dict) else given


class ParameterEntry(Strict):
    """A parameter with a name of its own: shared, fixed or specially initialised."""

    shape: list[Size] = Field(default=[], description="its extents; [] is a single number")
    init: InitEntry = Field(
        default_factory=lambda: InitEntry(uniform_fan_in={}),
        description="how it starts, one of pcsim list inits; default: uniform_fan_in",
    )


class VertexEntry(BaseModel):
    """One vertex; further keys are attributes of its op and are checked by the op's row."""

    model_config = ConfigDict(extra="allow", frozen=True)

    op: Annotated[str, listed_in("ops")] = Field(description="what the vertex computes: one of pcsim list ops")
    inputs: list[Input] = Field(
        default_factory=list, description="names of vertices, or {from: NAME, delay: 2}, in order"
    )
    params: dict[str, Name] = Field(
        default_factory=dict,
        description="parameter slot -> named parameter: {weight: W}; default: parameters of its own",
    )
    init: dict[str, Any] = Field(
        default_factory=dict, description="parameter slot -> how it starts: {weight: {glorot: {}}}"
    )
    precision: Annotated[Annotated[float, Field(strict=True)] | list[Any], BeforeValidator(as_lists)] = Field(
        default=1.0, description="weight of its error: a number, a list for each unit, or a matrix"
    )
    feedback: Annotated[str, listed_in("feedbacks")] = Field(
        default="symmetric", description="how errors travel back: one of pcsim list feedbacks"
    )

    acts: ActsEntry = Field(default=ActsEntry(), description="when it sends and moves; default: at every tick")

    @property
    def attributes(self) -> dict[str, Any]:
        """Keys that belong to the op."""
        return dict(self.model_extra or {})


class GraphDocument(Strict):
    """A whole graph: named parameters, vertices, outputs."""

    pcsim: Literal["graph/1"] = Field(default="graph/1", description="the kind and the version of the document")
    title: str = Field(default="", description="a name for people, in tables and figures")
    source: str = Field(default="", description="paper and figure")
    args: dict[str, Any] = Field(default={}, description="arguments with their defaults; use them as $name")
    parameters: dict[Name, ParameterEntry] = Field(
        default={}, description="name -> parameter that is shared, or starts in a way of its own"
    )
    vertices: dict[Name, VertexEntry] = Field(
        default={}, description="name -> vertex: an op with inputs, or 'use' of another graph document"
    )
    formula: str | None = Field(default=None, description="a formula in place of vertices: sin(theta * x) + x**2")
    outputs: list[Name] = Field(
        default=[], description="vertices that have targets; default: the vertices that feed no other"
    )

    @model_validator(mode="after")
    def _has_vertices(self) -> GraphDocument:
        if bool(self.vertices) == (self.formula is not None):
            message = "a graph has either 'vertices' (at least one) or a 'formula'"
            raise ValueError(message)
        return self
