"""What came of training: parameters, the log, and where all of it is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

import numpy as np

from pcsim.errors import RunError, clipped, wrong
from pcsim.learn.training_state import TrainingState, load_state
from pcsim.run.result import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

Array = np.ndarray

MANIFEST, PARAMETERS, PRECISIONS, LOG = "training.json", "parameters.npz", "precisions.npz", "log.zarr"
FORMAT = "training/1"


@dataclass(frozen=True)
class Training:
    """What came of training a scenario.

    Attributes
    ----------
    manifest : scenario, digest, versions, engine, status, why it ended, and the summary
    state : parameters, buffers, the optimiser's own, and the log
    """

    manifest: Mapping[str, Any]
    state: TrainingState = field(repr=False)

    def __repr__(self) -> str:
        ended = clipped(f"{self.manifest['status']}: {self.manifest['reason']}")
        return f"Training({clipped(self.manifest['title'])!r}, {self.state.step} steps, {ended})"

    @property
    def parameters(self) -> dict[str, Array]:
        """The parameters after the last step: {name: (*shape)}."""
        return self.state.parameters

    @property
    def buffers(self) -> dict[str, Array]:
        """What ops keep from batch to batch, after the last step: {``vertex.buffer``: (*shape)}."""
        return self.state.buffers

    @property
    def precisions(self) -> dict[str, Array]:
        """The precisions that were learnt, after the last step: {vertex: () or (*shape)}."""
        return {name: np.exp(array) for name, array in self.state.logarithms.items()}

    @property
    def log(self) -> xr.Dataset:
        """The log: loss and metrics over ``step``; means, validation and speed over ``epoch`` (``epoch_loss``)."""
        return self.state.log.dataset()

    @property
    def summary(self) -> dict[str, Any]:
        """Steps, epochs, the last losses and metrics, those of the test samples, seconds: plain data."""
        return dict(self.manifest["summary"])

    def save(self, folder: str | Path) -> Path:
        """Write manifest, log (``log.zarr``, ``steps.csv``, ``epochs.csv``), parameters and checkpoint to a folder.

        Raises RunError where it cannot be written.
        """
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            write_json(target / MANIFEST, self.manifest)  # first of all: whoever is killed now can go on
            self.state.save(target)
            np.savez(target / PARAMETERS, allow_pickle=False, **{**self.parameters, **self.buffers})
            if self.precisions:
                np.savez(target / PRECISIONS, allow_pickle=False, **self.precisions)
            self.state.log.write_csv(target)
            with catch_warnings():
                filterwarnings("ignore", "The data type .* does not have a Zarr V3 specification")
                self.log.to_zarr(target / LOG, mode="w", consolidated=False)
        except OSError as error:
            message = f"cannot write the training to {target}: {error.strerror or error}"
            raise RunError(message) from error
        return target


def open_training(folder: str | Path) -> Training:
    """Open the folder of a training, also one that was killed; raises InputError if it is none, or is damaged."""
    return Training(read_manifest(folder), load_state(folder))


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return the manifest of a training; raises InputError where the folder has none."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except OSError as error:
        hint = "pcsim train FILE --out FOLDER makes one"
        raise wrong(
            "resume", f"{folder} is not the folder of a training: {MANIFEST}: {error.strerror}; {hint}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise wrong("resume", f"{path} is damaged: {str(error)[:80]}") from None
    kind = manifest.get("pcsim") if isinstance(manifest, dict) else None
    if kind != FORMAT or not isinstance(manifest.get("summary"), dict):
        raise wrong("resume", f"{path} says pcsim: {str(kind)[:40]!r}, expected {FORMAT!r}")
    return dict(manifest)
