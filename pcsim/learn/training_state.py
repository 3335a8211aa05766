"""Training between two steps, in one file: parameters, buffers, what the optimiser keeps, and the log so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pcsim.learn.log import Log, log_of
from pcsim.run.checkpoint import read_arrays, write_arrays

if TYPE_CHECKING:
    from pcsim.optimisers import Optimiser, State

Array = np.ndarray

CHECKPOINT = "checkpoint.npz"
FORMAT = "training-checkpoint/1"


@dataclass
class TrainingState:
    """What training goes on from: everything else is named by the scenario, its seed and the step.

    Attributes
    ----------
    step : batches done
    parameters, buffers : {name: (*shape)}
    kept : {parameter: what the optimiser keeps of it}
    carried : {free vertex: (batch, *shape)}, the values at which the last batch ended, where the next begins there
    digest : of the scenario and of the parameters that training began with
    logarithms : {vertex: () or (*shape)} of the precisions that are learnt
    """

    step: int
    parameters: dict[str, Array]
    buffers: dict[str, Array]
    kept: dict[str, State]
    log: Log
    digest: str = ""
    carried: dict[str, Array] = field(default_factory=dict)
    logarithms: dict[str, Array] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the checkpoint: a reader finds the former one or this one; raises RunError."""
        arrays = {f"parameter:{name}": array for name, array in self.parameters.items()}
        arrays |= {f"buffer:{name}": array for name, array in self.buffers.items()}
        arrays |= {f"carried:{name}": array for name, array in self.carried.items()}
        arrays |= {f"precision:{name}": array for name, array in self.logarithms.items()}
        arrays |= {f"kept:{key}:{name}": kept[key] for name, kept in self.kept.items() for key in kept}
        arrays |= {f"log:{name}": array for name, array in self.log.arrays().items()}
        facts = {"pcsim": FORMAT, "digest": self.digest, "step": self.step}
        write_arrays(folder / CHECKPOINT, facts, arrays)


def first_state(
    parameters: dict[str, Array], buffers: dict[str, Array], optimiser: Optimiser, digest: str,
    logarithms: dict[str, Array],
) -> TrainingState:  # fmt: skip
    """Return the state before the first step; arrays are copied."""
    theta = {name: np.array(array) for name, array in parameters.items()}
    kept = {name: optimiser.begin(array) for name, array in theta.items()}
    return TrainingState(0, theta, {name: np.array(array) for name, array in buffers.items()}, kept,
                         Log(tuple(theta)), digest, logarithms=logarithms)  # fmt: skip


def load_state(folder: str | Path) -> TrainingState:
    """Return the state in a folder; raises InputError where there is none, or it is damaged."""
    facts, arrays = read_arrays(Path(folder) / CHECKPOINT, FORMAT)
    kinds = ("parameter", "buffer", "carried", "precision", "kept", "log")
    parts: dict[str, dict[str, Array]] = {key: {} for key in kinds}
    for key, array in arrays.items():
        kind, _, name = key.partition(":")
        parts[kind][name] = array
    kept: dict[str, State] = {name: {} for name in parts["parameter"]}
    for key, array in parts["kept"].items():
        what, _, name = key.partition(":")
        kept.setdefault(name, {})[what] = array
    log = log_of(list(parts["parameter"]), parts["log"])
    return TrainingState(facts["step"], parts["parameter"], parts["buffer"], kept, log, facts["digest"],
                         parts["carried"], parts["precision"])  # fmt: skip
