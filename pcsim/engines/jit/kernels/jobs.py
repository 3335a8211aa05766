"""Runs lists of instructions, tick after tick: what each thread of a pool does with the job that it is given.

A job is one record, with one more for each thread; an instruction is one record, with a range of rows for each thread.
"""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.compiled import jit
from pcsim.engines.jit.kernels.native import count_up, give_way, invoke, look, pointer, swap, wait_for_all
from pcsim.engines.jit.kernels.records import Record, location, whole

INSTRUCTION = Record(
    "instruction",
    kernel=whole("address of its code; 0: all threads wait for each other"),
    operands=location("what it works on"),
)

RANGE = Record("range", low=whole("first row"), high=whole("last row + 1"))

JOB = Record(
    "job",
    posted=whole("jobs posted so far"),
    done=whole("jobs done, by all helpers together"),
    instructions=whole("address of the instructions, in bytes"),
    count=whole("how many"),
    threads=whole("threads"),
    in_step=whole("whether threads wait for each other"),
    mode=whole("mode"),
    first=whole("first tick"),
    end=whole("last tick + 1"),
)

HELPER = Record(
    "helper",
    seen=whole("jobs that it has seen"),
    asleep=whole("whether it sleeps"),
    part=location("its part"),
)
"""The caller has the same, first of all."""

instruction_at, range_at, job_at, helper_at = INSTRUCTION.one(), RANGE.each(), JOB.one(), HELPER.each()

POSTED, DONE = JOB.offset("posted"), JOB.offset("done")
HELPERS, HELPER_SIZE, ASLEEP = JOB.size, HELPER.size, HELPER.offset("asleep")
INSTRUCTION_SIZE, RANGE_SIZE = INSTRUCTION.size, RANGE.size

PATIENCE = 150_000
"""Looks for a new job, a few milliseconds, after which a helper goes to sleep; training has its next one by then."""


@jit
def run_share(memory: Any, table: Any, desk: Any, thread: int) -> None:
    """Run a thread's share of the job; ``memory`` lends its format only."""
    base, ints, numbers = pointer(0, memory), pointer(table.ctypes.data, table), pointer(desk.ctypes.data, desk)
    job = job_at(numbers, 0)
    lines, width = pointer(job.instructions, table), INSTRUCTION_SIZE + RANGE_SIZE * job.threads
    mode, part, in_step = job.mode, helper_at(numbers, HELPERS, thread).part, job.in_step
    for tick in range(job.first, job.end):
        for number in range(job.count):
            instruction = instruction_at(lines, number * width)
            rows = range_at(lines, number * width + INSTRUCTION_SIZE, thread)
            if instruction.kernel == 0:
                if in_step:
                    wait_for_all(ints, 0, job.threads)
            elif rows.low < rows.high:
                operands, low, high = instruction.operands, rows.low, rows.high
                invoke(instruction.kernel, base, ints, operands, low, high, part, mode, tick)


@jit
def attend(memory: Any, table: Any, desk: Any, thread: int) -> None:
    """Run a helper's share of each job that is posted, until none has been for a while."""
    numbers, asleep = pointer(desk.ctypes.data, desk), HELPERS + HELPER_SIZE * thread + ASLEEP
    helper = helper_at(numbers, HELPERS, thread)
    looks = 0
    while True:
        if looks > PATIENCE:
            swap(numbers, asleep, 1)  # a job posted from here on wakes this helper; one posted before is seen now
        if look(numbers, POSTED) != helper.seen:
            swap(numbers, asleep, 0)
            helper.seen += 1
            run_share(memory, table, desk, thread)
            count_up(numbers, DONE)
            looks = 0
        elif looks > PATIENCE:
            return
        looks += 1
        if looks % 32 == 0:
            give_way()


@jit
def describe(desk: Any, instructions: Any, parts: Any, mode: int, first: int, end: int, in_step: bool) -> None:
    """Write down a job."""
    numbers = pointer(desk.ctypes.data, desk)
    job = job_at(numbers, 0)
    job.instructions, job.count, job.in_step = instructions.ctypes.data, len(instructions), in_step
    job.mode, job.first, job.end = mode, first, end
    for thread in range(job.threads):
        helper_at(numbers, HELPERS, thread).part = parts[thread]


@jit
def post(desk: Any, instructions: Any, parts: Any, mode: int, first: int, end: int, in_step: bool) -> bool:
    """Let the helpers begin a job; return whether one of them sleeps."""
    describe(desk, instructions, parts, mode, first, end, in_step)
    numbers = pointer(desk.ctypes.data, desk)
    count_up(numbers, POSTED)
    asleep = 0
    for thread in range(1, job_at(numbers, 0).threads):
        asleep += look(numbers, HELPERS + HELPER_SIZE * thread + ASLEEP)
    return asleep > 0


@jit
def share(memory: Any, table: Any, desk: Any) -> None:
    """Run the caller's share of the job, and wait for the helpers."""
    run_share(memory, table, desk, 0)
    numbers = pointer(desk.ctypes.data, desk)
    looks, goal = 0, look(numbers, POSTED) * (job_at(numbers, 0).threads - 1)
    while look(numbers, DONE) < goal:
        looks += 1
        if looks % 32 == 0:
            give_way()


@jit
def alone(
    memory: Any, table: Any, desk: Any, instructions: Any, parts: Any, mode: int, first: int, end: int, in_step: bool
) -> None:
    """Run the shares of all threads, one after the other."""
    describe(desk, instructions, parts, mode, first, end, in_step)
    for thread in range(job_at(pointer(desk.ctypes.data, desk), 0).threads):
        run_share(memory, table, desk, thread)
