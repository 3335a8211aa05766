"""The graph document as validated data (``pcsim: graph/1``), after its ``$`` are gone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

from pcsim.documents.frozen_arrays import FrozenArray, as_lists, check_not_described, frozen_numbers
from pcsim.ops.attributes import MOST_TICKS

Delay = Annotated[StrictInt, Field(ge=0, le=MOST_TICKS)]
Size = Annotated[StrictInt, Field(ge=1, le=1_000_000_000)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

# '#' only where an identity vertex stands on one of several parallel edges (a~b#1~1).
_NAME = r"^[^\s#>,/]+(#[0-9]+~[^\s#>,/]+)*$"


def _as_text(name: Any) -> Any:
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


_Text = Annotated[str, Field(min_length=1, max_length=200, pattern=_NAME)]
Name = Annotated[_Text, BeforeValidator(_as_text, json_schema_input_type=_Text | int)]


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


class Strict(BaseModel):
    """A part of a document: unknown keys are refused, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DelayEntry(Strict):
    """Ticks that messages travel over an edge, in each direction."""

    value: Delay = 0
    error: Delay = 0


def _both_ways(delay: Any) -> Any:
    return {"value": delay, "error": delay} if not isinstance(delay, dict) else delay


class InputEntry(Strict):
    """One input of a vertex: where it comes from and how long it travels."""

    source: Name = Field(alias="from", description="the vertex that this input comes from")
    delay: Annotated[DelayEntry, BeforeValidator(_both_ways, json_schema_input_type=Delay | DelayEntry)] = DelayEntry()


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
    constant: Number | None = None
    normal: Normal | None = Field(default=None, description="[mean, standard deviation]")
    uniform: Interval | None = Field(default=None, description="[low, high]")
    uniform_fan_in: dict[str, Any] | None = Field(
        default=None, max_length=0, description="+-1/sqrt(fan-in), as PyTorch"
    )
    glorot: dict[str, Any] | None = Field(default=None, max_length=0)
    he: dict[str, Any] | None = Field(default=None, max_length=0)
    orthogonal: dict[str, Any] | None = Field(default=None, max_length=0)
    connect: dict[str, Any] | None = Field(
        default=None, max_length=0, description="the weights of the file that 'connect' of a projection reads"
    )
    file: str | None = None
    key: str | None = None

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

    shape: list[Size] = []
    init: InitEntry = Field(default_factory=lambda: InitEntry(uniform_fan_in={}))


class VertexEntry(BaseModel):
    """One vertex; further keys are attributes of its op and are checked by the op's row."""

    model_config = ConfigDict(extra="allow", frozen=True)

    op: str = Field(description="one of: pcsim list ops")
    inputs: list[Input] = Field(default_factory=list)
    params: dict[str, Name] = Field(default_factory=dict, description="named parameters for the op's parameter slots")
    init: dict[str, Any] = Field(default_factory=dict, description="initialisers by parameter slot")
    precision: Annotated[Annotated[float, Field(strict=True)] | list[Any], BeforeValidator(as_lists)] = 1.0
    feedback: str = Field(default="symmetric", description="how errors travel back: one of pcsim list feedbacks")

    @property
    def attributes(self) -> dict[str, Any]:
        """Keys that belong to the op."""
        return dict(self.model_extra or {})


class GraphDocument(Strict):
    """A whole graph: named parameters, vertices, outputs."""

    pcsim: Literal["graph/1"] = "graph/1"
    title: str = ""
    source: str = Field(default="", description="paper and figure")
    args: dict[str, Any] = Field(default={}, description="arguments with their defaults; use them as $name")
    parameters: dict[Name, ParameterEntry] = {}
    vertices: dict[Name, VertexEntry] = {}
    formula: str | None = Field(default=None, description="a formula in place of vertices")
    outputs: list[Name] = Field(default=[], description="default: the vertices that feed no other")

    @model_validator(mode="after")
    def _has_vertices(self) -> GraphDocument:
        if bool(self.vertices) == (self.formula is not None):
            message = "a graph has either 'vertices' (at least one) or a 'formula'"
            raise ValueError(message)
        return self
