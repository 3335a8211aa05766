"""What all tests share: every engine through one fixture, and hypothesis without chance or clock."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from strategies import run_task

from pcsim.engines import ENGINES, open_engine
from pcsim.errors import InputError

if TYPE_CHECKING:
    from pcsim.engines import Engine

__all__ = ["run_task"]

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "dev", deadline=None, derandomize=True, database=None, max_examples=30, suppress_health_check=SLOW_IS_FINE
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=200, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(autouse=True)
def two_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two threads share what they would leave to one, since graphs of tests are small; not where speed counts."""
    if "PCSIM_THREADS" not in os.environ and request.node.get_closest_marker("bench") is None:
        monkeypatch.setenv("PCSIM_THREADS", "2")
        monkeypatch.setattr("pcsim.engines.jit.sizing.FEWEST", 8)


def opened(name: str) -> Engine:
    """Return an engine, or skip the test where a library or a device that it needs is not there."""
    assert name in ENGINES
    try:
        return open_engine(name)
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine in turn."""
    return opened(request.param)


@pytest.fixture
def numpy_engine() -> Engine:
    """The fast engine, where one is enough."""
    return opened("numpy")
