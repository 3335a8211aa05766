"""Pieces of work shared out among processes."""

import multiprocessing
import os
import threading
import time

import pytest

from pcsim.errors import RunError
from pcsim.run.processes import share_out

DEADLINE = 60.0
"""Seconds for other processes to start and to do next to nothing."""


def whose(piece, _progress):
    """Return the piece, and the process and the threads it was done in."""
    return piece, os.getpid(), os.environ["PCSIM_THREADS"]


def go_on(piece, progress):
    """Return at once in another process; in the caller's, go on for as long as ``piece`` says, in seconds."""
    end = time.monotonic() + piece
    while progress is not None and time.monotonic() < end:
        progress(0, 1)
        time.sleep(0.01)
    return time.monotonic()


def die(piece, progress):
    """End the process, unless it is the caller's."""
    if progress is None:
        os._exit(1)
    go_on(piece, progress)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_piece_is_done_once_and_kept_by_the_caller(processes, monkeypatch):
    monkeypatch.setenv("PCSIM_THREADS", "1")
    kept = {}

    def keep(number, result):
        assert threading.current_thread() is threading.main_thread()
        assert number not in kept
        kept[number] = result

    share_out(whose, "abcdef", processes, keep)
    assert [kept[number][0] for number in range(6)] == list("abcdef")
    assert kept[0][1] == os.getpid()
    assert share_out(whose, "", processes, keep) is None
    assert not multiprocessing.active_children()


def test_other_processes_have_the_other_cores(monkeypatch):
    monkeypatch.delenv("PCSIM_THREADS", raising=False)
    monkeypatch.setattr("pcsim.run.processes.cores", lambda: 6)
    kept = {}
    share_out(whose, "ab", 2, kept.__setitem__)
    assert {threads for _, _, threads in kept.values()} == {"3"}
    assert "PCSIM_THREADS" not in os.environ


def test_what_others_have_done_is_kept_while_this_process_is_at_its_own():
    kept = []

    def keep(number, _result):
        kept.append(number)
        if number == 1:
            raise KeyboardInterrupt  # its own piece would go on until the deadline

    with pytest.raises(KeyboardInterrupt):
        share_out(go_on, [DEADLINE, 0], 2, keep)
    assert kept == [1]


def test_a_process_that_dies_ends_the_whole_with_a_reason():
    with pytest.raises(RunError, match="ended by itself"):
        share_out(die, [DEADLINE, 0, 0, 0, 0], 2, lambda *_: None)
    assert not multiprocessing.active_children()


def test_whoever_cannot_keep_a_result_waits_for_nobody():
    def keep(number, result):
        raise RunError("the disk is full")

    with pytest.raises(RunError, match="the disk is full"):
        share_out(go_on, [0, 0], 2, keep)
    assert not multiprocessing.active_children()
