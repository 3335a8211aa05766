"""The graph document as validated data (``pcsim: graph/1``), after its ``$`` are gone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

MOST_TICKS = 1_000_000
"""The longest delay that a document may ask for, in ticks."""

Delay = Annotated[StrictInt, Field(ge=0, le=MOST_TICKS)]
Size = Annotated[StrictInt, Field(ge=1, le=1_000_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s#>,/]+$"), BeforeValidator(
    lambda name: str(name) if isinstance(name, int) and not isinstance(name, bool) else name
)]


class Strict(BaseModel):
    """A part of a document: unknown keys are refused, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DelayEntry(Strict):
    """Ticks that messages travel over an edge, in each direction."""

    value: Delay = 0
    error: Delay = 0


def _both_ways(delay: Any) -> Any:
    return {"value": delay, "error": delay} if isinstance(delay, int | float | str) else delay


class InputEntry(Strict):
    """One input of a vertex: where it comes from and how long it travels."""

    source: Name = Field(alias="from", description="the vertex that this input comes from")
    delay: Annotated[DelayEntry, BeforeValidator(_both_ways)] = DelayEntry()


Input = Annotated[InputEntry, BeforeValidator(lambda entry: {"from": entry} if isinstance(entry, str | int) else entry)]


class InitEntry(Strict):
    """How a parameter starts: exactly one of these keys (``key`` goes with ``file``)."""

    values: Any = None
    constant: float | None = None
    normal: tuple[float, float] | None = Field(None, description="[mean, standard deviation]")
    uniform: tuple[float, float] | None = Field(None, description="[low, high]")
    uniform_fan_in: dict[str, Any] | None = Field(None, max_length=0, description="+-1/sqrt(fan-in), as PyTorch")
    glorot: dict[str, Any] | None = Field(None, max_length=0)
    he: dict[str, Any] | None = Field(None, max_length=0)
    orthogonal: dict[str, Any] | None = Field(None, max_length=0)
    file: str | None = None
    key: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> InitEntry:
        kinds = self.model_fields_set - {"key"}
        if len(kinds) != 1:
            message = f"an init has exactly one of {', '.join(k for k in InitEntry.model_fields if k != 'key')}"
            raise ValueError(message)
        return self

    def row(self) -> tuple[str, Any]:
        """Return the initialiser as (kind, argument)."""
        kind = next(iter(self.model_fields_set - {"key"}))
        return kind, (self.file, self.key) if kind == "file" else getattr(self, kind)


class ParameterEntry(Strict):
    """A parameter with a name of its own: shared, fixed or specially initialised."""

    shape: list[Size] = []
    init: InitEntry = Field(default_factory=lambda: InitEntry(uniform_fan_in={}))


class VertexEntry(BaseModel):
    """One vertex; further keys are attributes of its op and are checked by the op's row."""

    model_config = ConfigDict(extra="allow", frozen=True)

    op: str = Field(description="one of: pcsim list ops")
    inputs: list[Input] = []
    params: dict[str, Name] = Field({}, description="named parameters for the op's parameter slots")
    init: dict[str, Any] = Field({}, description="initialisers by parameter slot")
    precision: float | list[Any] = 1.0
    feedback: Literal["symmetric"] = Field("symmetric", description="how errors travel back")

    @property
    def attributes(self) -> dict[str, Any]:
        """Keys that belong to the op."""
        return dict(self.model_extra or {})


class GraphDocument(Strict):
    """A whole graph: named parameters, vertices, outputs."""

    pcsim: Literal["graph/1"] = "graph/1"
    title: str = ""
    source: str = Field("", description="paper and figure")
    args: dict[str, Any] = Field({}, description="arguments with their defaults; use them as $name")
    parameters: dict[Name, ParameterEntry] = {}
    vertices: dict[Name, VertexEntry] = {}
    formula: str | None = Field(None, description="a formula in place of vertices")
    outputs: list[Name] = Field([], description="default: the vertices that feed no other")

    @model_validator(mode="after")
    def _has_vertices(self) -> GraphDocument:
        if bool(self.vertices) == (self.formula is not None):
            message = "a graph has either 'vertices' (at least one) or a 'formula'"
            raise ValueError(message)
        return self
