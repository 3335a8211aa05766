"""A training that is killed at any moment goes on to the same bits as one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pcsim

ROOT = Path(__file__).parents[1]
SETTINGS = {"train.epochs": 3, "train.checkpoint": 4, "train.compare": None, "graph.width": 16}


def trained(engine):
    if engine == "numba":
        pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    return pcsim.train(ROOT / "scenarios" / "train-digits.yaml", SETTINGS, engine=engine)


def command(engine, folder, *more):
    settings = [f"--set={key}={'null' if value is None else value}" for key, value in SETTINGS.items()]
    begin = ["scenarios/train-digits.yaml", *settings, "--engine", engine, "--out", folder]
    what = ["--resume", folder, "--engine", engine] if (folder / "training.json").exists() else begin
    return [sys.executable, "-m", "pcsim", "train", *map(str, what), *more]


def killed_once(engine, folder, seconds):
    """Start or go on with a training, and kill it after so many seconds; return whether it had ended before."""
    process = subprocess.Popen(
        command(engine, folder), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def check(engine, folder, wanted, moments):
    for seconds in moments:
        killed_once(engine, folder, seconds)
    subprocess.run(command(engine, folder), cwd=ROOT, check=True, capture_output=True)
    found = pcsim.open_training(folder)
    assert found.state.step == wanted.state.step
    for name, array in wanted.parameters.items():
        assert np.array_equal(found.parameters[name], array), name
    assert np.array_equal(found.log["loss"], wanted.log["loss"])


def test_a_training_that_was_killed_goes_on_to_the_same_bits(tmp_path):
    wanted, folder = trained("numpy"), tmp_path / "a"
    process = subprocess.Popen(command("numpy", folder), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "checkpoint.npz").exists():
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert pcsim.open_training(folder).state.step < wanted.state.step
    check("numpy", folder, wanted, [])


@pytest.mark.bench
@pytest.mark.parametrize("engine", ["numpy", "numba", "actors"])
def test_a_training_that_was_killed_at_twenty_moments_goes_on_to_the_same_bits(tmp_path, engine):
    draw, wanted = random.Random(1), trained(engine)
    for number in range(20):
        check(engine, tmp_path / str(number), wanted, [draw.uniform(0.6, 2.5)])
