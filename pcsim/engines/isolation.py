"""What an actor may touch: its own state and its inbox. Here that is enforced, and what it reads is noted.

What an actor is given is read-only, always: an op that writes to a message, or to a parameter that others share, ends
the run (``alone``). A ``Witness`` goes further. It lets every actor act twice, the second time while the memory of all
other actors holds NaN: whoever reads there comes to another result, and the run ends with the names of both. It also
notes which messages of its inbox an actor read, and by NaN in its own memory whether what it sends or learns depends on
its parameters and on the inputs that it keeps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import RunError

if TYPE_CHECKING:
    from pcsim.engines.actors import Actor, ActorSession
    from pcsim.graph.graph import Vertex

Array = np.ndarray

Watch = Callable[..., Any]
"""(actor, phase, act, **what it is given) -> what the act returns; phases are predict, send, learn, move."""

WRITES = ("read-only", "not writeable")
"""In what NumPy says where something that is read-only is written to."""


def read_only(array: Array) -> Array:
    """Return a view of an array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def alone(actor: Actor, _phase: str, act: Callable[..., Any], **given: Any) -> Any:
    """Let an actor act; raises RunError where it writes to what it was only given to read."""
    try:
        return act(**given)
    except ValueError as error:
        refuse(actor.vertex, error)
        raise


def refuse(vertex: Vertex, error: ValueError) -> None:
    """Raise RunError with the name of a vertex where an error says that it wrote to what is read-only."""
    if any(text in str(error) for text in WRITES):
        message = (f"vertex {vertex.name!r} (op {vertex.op.name!r}) wrote to a message or a parameter: what "
                   "an actor is given is read-only; let its op make a new array")  # fmt: skip
        raise RunError(message) from error


class Noted(dict[Any, Array]):
    """One kind of an actor's messages, by slot or edge; ``read`` are the keys that were looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[Any] = set()

    def __getitem__(self, key: Any) -> Array:
        self.read.add(key)
        return super().__getitem__(key)


@dataclass
class Reads:
    """What one actor read: keys of messages, and (phase, what it depends on) of ``parameters`` and ``inputs`` kept."""

    values: set[int] = field(default_factory=set)
    errors: set[Any] = field(default_factory=set)
    depends: set[tuple[str, str]] = field(default_factory=set)


class Witness:
    """Sees every act of the actors of a session, and ends the run where one touches what is not its own.

    Attributes
    ----------
    reads : {vertex: what it read so far}
    acts : how often an actor's act was checked
    """

    def __init__(self, session: ActorSession) -> None:
        self.actors, self.reads, self.acts = session.actors, defaultdict[str, Reads](Reads), 0
        self.probed: set[tuple[str, str]] = set()
        for actor in self.actors.values():
            actor.inbox = {"value": Noted(), "error": Noted()}
        session.watch = self  # what follows is seen

    def __call__(self, actor: Actor, phase: str, act: Callable[..., Any], **given: Any) -> Any:
        """Let an actor act, and once more without the memory of others; raises RunError where that differs."""
        act, name, before = partial(act, **given), actor.vertex.name, dict(vars(actor))
        made = _made(actor, phase, act)
        after = dict(vars(actor))
        self.acts += 1
        self._note(name, actor)
        if culprits := self._touched(actor, phase, act, before, made):
            whose = ", ".join(culprits)
            message = (f"vertex {name!r} (op {actor.vertex.op.name!r}) read the memory of {whose}, "
                       f"of which it was sent no message: in {phase}")  # fmt: skip
            raise RunError(message)
        if phase in ("send", "learn") and (name, phase) not in self.probed:
            self._probe(actor, phase, act, made)
        vars(actor).update(after)
        return made[0]

    def _note(self, name: str, actor: Actor) -> None:
        for kind, keys in (("value", self.reads[name].values), ("error", self.reads[name].errors)):
            box = actor.inbox[kind]
            if isinstance(box, Noted):
                keys |= box.read
                box.read.clear()

    def _touched(self, actor: Actor, phase: str, act: Any, before: Mapping[str, Any], made: Any) -> list[str]:
        """Return the actors whose memory an act depends on, but for its own."""
        others = [name for name, other in self.actors.items() if other is not actor]

        def differs(names: list[str]) -> bool:
            vars(actor).update(before)
            with self._spoilt(actor, names):
                return _bits(_made(actor, phase, act)) != _bits(made)

        return [name for name in others if differs([name])] if differs(others) else []

    def _probe(self, actor: Actor, phase: str, act: Any, made: Any) -> None:
        """Note whether what is sent or learnt depends on the parameters, and on the inputs and what is kept of them."""
        self.probed.add((actor.vertex.name, phase))
        own = dict(vars(actor))
        learnt = dict(actor.vertex.params)
        parameters = {slot: spoilt(array) if slot in learnt else array for slot, array in actor.params.items()}
        inputs = {"inputs": tuple(map(spoilt, actor.inputs)), "saved": tuple(map(spoilt, actor.saved)),
                  "mu": spoilt(actor.mu)}  # fmt: skip
        for what, changed in (("parameters", {"params": parameters}), ("inputs", inputs)):
            vars(actor).update({**own, **changed})
            if _bits(_tried(actor, phase, act)) != _bits(made[0]):
                self.reads[actor.vertex.name].depends.add((phase, what))
            vars(actor).update(own)

    @contextmanager
    def _spoilt(self, actor: Actor, names: list[str]) -> Iterator[None]:
        """Fill the memory of other actors with NaN, but for what an actor was given."""
        own = {id(root(array)) for array in arrays_in(vars(actor))}
        theirs = {id(one): one for name in names for array in arrays_in(vars(self.actors[name]))
                  if id(one := root(array)) not in own and one.dtype.kind == "f"}  # fmt: skip
        kept = [(array, array.copy(), array.flags.writeable) for array in theirs.values()]
        try:
            for array, _, _ in kept:
                with suppress(ValueError):  # memory that nobody may write to was given from outside
                    array.flags.writeable = True
                    array.fill(np.nan)
            yield
        finally:
            for array, content, writeable in kept:
                if array.flags.writeable:
                    array[...] = content
                array.flags.writeable = writeable


def _made(actor: Actor, phase: str, act: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """Return what an act returns and the fields of the actor after it."""
    found = alone(actor, phase, act)
    return found, {key: value for key, value in vars(actor).items() if key != "inbox"}


def _tried(actor: Actor, phase: str, act: Callable[[], Any]) -> Any:
    """Return what an act returns; None where what was spoilt cannot be worked with, an index for one."""
    try:
        return alone(actor, phase, act)
    except (IndexError, ValueError, RunError):
        return None


def spoilt(array: Any) -> Any:
    """Return an array of which no number is what it was: NaN where they are floating-point numbers."""
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype.kind == "f":
        return np.full_like(array, np.nan)
    return ~array if array.dtype.kind == "b" else array + 1 if array.dtype.kind in "iu" else array


def root(array: Array) -> Array:
    """Return the array whose memory a view shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_in(data: Any) -> Iterator[Array]:
    """Yield every array in nested mappings and sequences."""
    if isinstance(data, np.ndarray):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from arrays_in(value)
    elif isinstance(data, tuple | list):
        for value in data:
            yield from arrays_in(value)


def _bits(made: Any) -> list[bytes]:
    """Return the bits of all arrays in what an act returned, and in the fields that it left."""
    return [np.ascontiguousarray(array).tobytes() for array in arrays_in(made)]
