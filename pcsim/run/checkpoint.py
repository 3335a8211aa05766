"""A run between two ticks, in one file: its state, and what has been measured so far."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.state import ARRAYS, State
from pcsim.errors import RunError, wrong
from pcsim.graph.array_files import BROKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKPOINT = "checkpoint.npz"
"""Its name in the folder of a run."""

FORMAT = "checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """What a run goes on from.

    Attributes
    ----------
    state : the session's, before its next tick
    measured : what the meter has noted, by name; empty where nothing is measured
    digest : of the scenario that the run is of, and of its parameters
    """

    state: State
    measured: Mapping[str, np.ndarray] = field(default_factory=dict)
    digest: str = ""

    def __repr__(self) -> str:
        return f"Checkpoint({self.state!r})"

    def save(self, path: Path) -> None:
        """Write to a file: whoever opens it finds the former checkpoint or this one, never half of one.

        Raises RunError where it cannot be written.
        """
        write_arrays(path, self._described(), dict(self._arrays()))

    def _arrays(self) -> list[tuple[str, np.ndarray]]:
        state = self.state
        named = [(f"{key}:{name}", array) for key in ARRAYS for name, array in getattr(state, key).items()]
        named += [(f"private:{name}", array) for name, array in state.private.items()]
        return named + [(f"measured:{name}", array) for name, array in self.measured.items()]

    def _described(self) -> dict[str, Any]:
        state = self.state
        facts = {key: getattr(state, key) for key in ("tick", "fired", "frozen", "seed", "batch_number", "engine")}
        return {"pcsim": FORMAT, "digest": self.digest, **facts}


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Return the checkpoint in a file; raises InputError where there is none, or it is damaged."""
    facts, arrays = read_arrays(path, FORMAT)
    try:
        return _checkpoint(facts, arrays)
    except BROKEN as error:
        raise wrong("resume", f"{path} is no checkpoint, or a damaged one: {error}") from None


def write_arrays(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write facts that JSON can hold, and arrays: whoever opens the file finds the former one or this one.

    Raises RunError where it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    described = np.frombuffer(json.dumps({**facts, "names": list(arrays)}).encode(), np.uint8)
    # arrays go by number, since their names may hold what a file name cannot
    numbered: dict[str, Any] = {f"array_{place}": array for place, array in enumerate(arrays.values())}
    try:
        with part.open("wb") as file:
            np.savez(file, described=described, **numbered)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        message = f"cannot write the checkpoint {path}: {error.strerror or error}"
        raise RunError(message) from error


def read_arrays(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what `write_arrays` wrote; raises InputError where there is none, or it is damaged, or of another kind."""
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            facts: dict[str, Any] = json.loads(file["described"].tobytes())
            arrays = {name: file[f"array_{place}"] for place, name in enumerate(facts["names"])}
    except OSError as error:
        raise wrong("resume", f"cannot read {path}: {error.strerror or error}") from None
    except BROKEN as error:
        raise wrong("resume", f"{path} is no checkpoint, or a damaged one: {error}") from None
    if facts.get("pcsim") != kind:
        raise wrong("resume", f"{path} is {facts.get('pcsim')!r}, expected {kind!r}")
    return facts, arrays


def _checkpoint(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    parts: dict[str, Any] = {key: {} for key in (*ARRAYS, "private", "measured")}
    for key, array in arrays.items():
        kind, _, name = key.partition(":")
        parts[kind][name] = array
    measured = parts.pop("measured")
    ticks: dict[str, Any] = {key: {name: int(tick) for name, tick in facts[key].items()} for key in ("fired", "frozen")}
    known: dict[str, Any] = {key: facts[key] for key in ("tick", "seed", "batch_number", "engine")}
    return Checkpoint(State(**parts, **ticks, **known), measured, facts["digest"])
