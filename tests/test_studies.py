"""The ready studies: each explains itself, and what it claims holds."""

from __future__ import annotations

from pathlib import Path

import pytest

import pcsim
from pcsim.documents import plain, read

STUDIES = sorted((Path(__file__).parents[1] / "scenarios" / "studies").glob("*.yaml"), key=lambda path: path.stem)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_explains_itself_and_its_claim_holds(path):
    entries = plain(read(path))
    assert len(entries["notes"].split()) >= 80, "notes: the question, what is done, what comes out and why"
    assert "figure" in entries["claim"]
    done = pcsim.reproduce(path)
    if done.status == "not run":
        pytest.skip(done.why)
    assert done.verdict == "agrees", f"{done.ours}; {done.why}"
