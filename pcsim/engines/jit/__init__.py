"""The compiled engine: kernels that read records, and lists of instructions that threads run, many ticks in one call.

Where to look:

- ``kernels/`` is what Numba compiles: one function for each op, those of shape groups (moving, delay lines, squares),
  and the loop that runs instructions (``jobs``). Kernels know records, memory and samples; they know no program.
- ``kinds`` is the table of kernels: one row for each op says all that the rest of the engine must know of it.
- ``layout`` writes the records of a lowered program, ``instructions`` the order of a tick, ``parts`` what each thread
  has of its own; ``verifier`` checks all of that, and ``plan`` prints it.
- ``session`` runs it; ``learning`` takes contributions to gradients; ``array_steps`` are steps without a kernel.

An example: ``x -> a = x -> b = a²``, x = 1, the target of b is 3, moving predictions, gamma = 1/2, two ticks.

>>> import numpy as np
>>> from pcsim.engines.base import Task
>>> from pcsim.engines.jit.kernels.common import EDGE, PREDICT, SEND, SLOT, STEP
>>> from pcsim.engines.jit.kernels.flow import SLOPED, TERM
>>> from pcsim.engines.jit.session import JitSession
>>> from pcsim.graph import graph_from
>>> from pcsim.rules import rule
>>> graph = graph_from({"vertices": {
...     "x": {"op": "input", "shape": []},
...     "a": {"op": "identity", "inputs": ["x"]},
...     "b": {"op": "square", "inputs": ["a"]},
... }})
>>> data = {"parameters": {}, "inputs": {"x": np.ones(1)}, "targets": {"b": np.full(1, 3.0)}}
>>> losses = {"b": "squared_error"}
>>> task = Task(graph, rule("il", step_size=0.5), 2, 1, np.dtype(np.float64), losses=losses, **data)
>>> session = JitSession(task)

*Records.* All three vertices are scalars, so one shape group holds their units: a, then b, then x, which never moves.
Two ops make two steps. The record of b's step says that it has one vertex, whose number is 1, where its units lie, and
where its slots are; its only slot has one edge, which comes from vertex 0, and that is a.

>>> table, steps = session.table, [session.laid_out.steps[id(step)] for step in session.program.steps]
>>> b = STEP.view(table, steps[1])[0]
>>> int(b["count"]), int(b["first"]), int(b["size"]), int(b["slot_count"])
(1, 1, 1, 1)
>>> edge = EDGE.view(table, int(SLOT.view(table, int(b["slots"]))[0]["inputs"]))[0]
>>> int(edge["sender"])
0

What b sends back is its slope times its error. In a block of ticks no one reads it, so it is not written down: a
receives one term, the product of two numbers that lie where b keeps its slope and its error.

>>> place = next(entry.location for entry in session.laid_out.table.entries if entry.record is TERM)
>>> term = TERM.view(table, place)[0]
>>> bool(term["kind"] == SLOPED), bool(term["slope"] == b["saved"]), bool(term["error"] == b["error"])
(True, True, True)

*Instructions.* A tick is a list of them: a kernel, the place of its record, and the rows that each thread has of it.
Both steps predict; then ``flow`` sums what is due to a, and moves it.

>>> tick = session.instructions.ticking[0].instructions
>>> [(one.name, steps.index(one.operands) if one.operands in steps else "all") for one in tick]
[('unary', 0), ('unary', 1), ('flow', 'all')]

*Two ticks.* The sweep has set a = 1 and b = 1, and b was clamped: its deviation is 2. In tick 0 nothing has moved but
b, so a is passed over, and b sets its error to 2. ``flow`` then moves a by 1/2 of slope times error, 2 times 2, to a
deviation of 2. In tick 1 a acts because it has moved, b because its input has: b predicts 9, which is 8 more than
1, and its error is 2 - 8.

>>> units = session.units[()]
>>> def shown(name):
...     return [float(number) for number in getattr(units, name)[:2].ravel()]
>>> for number in range(2):
...     for one in tick:
...         line = session.sharing.compiled([one]).numbers
...         parts = session.parts.shared
...         session.pool.run(line, parts, PREDICT | SEND, number, number + 1, work=0, in_step=False)
...         print(number, one.name, *(f"{name} {shown(name)}" for name in ("deviation", "shift", "error")))
0 unary deviation [0.0, 2.0] shift [0.0, 0.0] error [0.0, 0.0]
0 unary deviation [0.0, 2.0] shift [0.0, 0.0] error [0.0, 2.0]
0 flow deviation [2.0, 2.0] shift [0.0, 0.0] error [0.0, 2.0]
1 unary deviation [2.0, 2.0] shift [0.0, 0.0] error [2.0, 2.0]
1 unary deviation [2.0, 2.0] shift [0.0, 8.0] error [2.0, -6.0]
1 flow deviation [-17.0, 2.0] shift [0.0, 8.0] error [2.0, -6.0]
"""
