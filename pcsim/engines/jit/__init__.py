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

What was chosen, and why:

*Why.* Small graphs were bound by Python and by one array operation per kind and tick, large ones by passes over
memory between products. So whole blocks of ticks run without Python. Ops without a kernel, readers and reports use
the same arrays as the array engine.

*Products.* Every element of a matrix product is one chain of fused multiply-adds over the inner index in ascending
order. So no bit depends on the batch, on stacking, tiling or threads; and the prediction from feedforward inputs is
the feedforward value, bit for bit: it needs no array of its own.

*Errors without messages.* Where an op works element by element, what it sends is a slope times its error. In a block
of ticks this product is not written down: the receiver takes slope and error from where they lie, rounds the product
as the message would be, and adds in the same order. Where predictions are fixed the error is the state that moves, so
receivers come before those that they receive from.

*Bundles.* Weighted sums of a step that take the same inputs, in whatever order each lists them, are a layer written
as single neurons. They run as one: W x is one product, and W^T g is summed by sender and counts as one message to
each input. A message that is read is rounded by itself, so the sum of those read can differ in the last place from
what was received. A neuron with a late edge stays by itself.

*Near memory.* Where vertices are large, one moves as soon as itself and all who receive from it have acted, in the
order of the graph, while what it takes is still in a near cache; a deep chain then runs at nearly the rate of its
products. Small vertices act step by step and then move, with few instructions. The bits are the same; a test holds
the two together (tests/test_advance.py::test_vertices_that_move_as_soon_as_they_may_change_no_bit).

*Threads.* Where the batch has two samples or more for each thread, threads share out the samples and never wait for
each other within a call. Each then passes over every vertex, so no more threads are used than are busy with numbers
three times as long as with passing: a thousand scalars of 64 samples, whose predictions are fixed, are left to one
thread. Squares of errors, which norms and divergences are made of, are summed in blocks of samples; how many blocks
there are depends on the task alone (``sizing.blocks_of``), each is summed by one thread, and blocks are added up in
order, so no recorded bit depends on threads. No more threads share samples than there are blocks. Arrays begin with a
pair of cache lines, so that threads share no line of a row where what each has of it fills whole lines; notes of
which vertices moved are kept for each thread apart. (A fault flag for every row, next to what all threads read, once
doubled the time of a tick.) Where samples are few, threads share out the vertices (of a population its neurons) and
wait between phases; where a tick is too short for that, one thread runs. Gradient contributions are shared out by
slices of weights, each accumulated by one thread in the order of its users; steps that share a parameter accumulate
one after the other. What a weight has accumulated is written in the order of memory, and replaced, not added to zero,
by its first contributor. No operation on a number of the simulation is atomic.

*Rows.* A row with one or two messages that are slopes times errors is moved in one loop, which also sums its squares:
whether that sum is finite says whether the row is, and its root is the norm at the tick after, where norms are
recorded. A sum that leaves the number format is taken again in double precision. Kernels take plain pointers: to
index a table as NumPy does, from its end where an index is negative, cost a quarter of a small row.

*What has not changed is passed over.* A vertex that has received nothing new since it last acted, and has not moved,
is passed over; what it sent last still stands. Comparisons are for equality, so this is exact. It is the light cone
and what stands still behind it, found while running.

*NaN and infinity.* Kernels raise a flag where a number is not finite, and go on. After the call the flag is seen, the
run is taken back to where the call began and run again tick by tick with every check, which names the vertex, the
tick and the value.

*Populations.* Delays cost memory by neuron, not by synapse. Synapses lie twice, by neuron after and by neuron before,
in blocks of receivers that are written by one thread each; every sum runs by delay, then by sender. Within these
kernels, in float32, subnormal numbers are taken for zero, since common processors are slow on them; the processor's
mode is put back before a kernel returns. Where a vertex fires when its error first leaves zero, they are kept.

*Compilation.* Kernels are compiled once for a number format, whatever the graph, and kept on disk under a digest of
all their sources.

Dropped: a compiled program for each graph (minutes of compiling where a graph is large); the host's matrix library
(other bits for another batch, threads of its own); fast mathematics (it reorders sums).
"""
