"""Dense matrix products for small and middle-sized matrices, on one thread, callable from compiled code.

Every element of C is one chain of fused multiply-adds over k in ascending order. So its bits do not depend on how many
rows or columns are computed with it, on how they are tiled, nor on which thread computes them.

Matrices are arrays of any dimensions with an offset and strides counted in elements: element (m, k) of A lies at
``oa + m sm + k sk``. B is read in panels of as many columns as ``panel_width`` says: element j of row k of panel p lies
at ``ob + p sp + k sb + j``. A row-major B is in panels as it lies, with ``sp`` the width of a panel and ``sb`` the
distance of its rows; a packed B, faster for many rows, has ``sp`` = ``k`` times the width and ``sb`` = the width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.engines.jit.kernels.compiled import CGUTILS, IR, TYPES, element, intrinsic, jit, load, store

if TYPE_CHECKING:
    from collections.abc import Iterable

ROWS = 6
"""Rows of the largest tile: with two vectors a row, its sums fill 12 registers of 16."""

DEPTH = 256
"""Rows of B that are used before the next ones are looked at: a panel of them stays in the nearest cache."""

SLAB = 1 << 15
"""Numbers of B that are packed at once where it is not packed already: they stay in the second cache."""

FULL, WIDE, HALF, REMAINDER = 0, 8, 16, 24
"""What a tile covers: a panel; several (for few rows, whose sums are too few to hide their latency); the last columns,
of at most one vector; the last columns, of more than one. Added to the number of rows, the key of a tile."""

LISTED = 32
"""Added to the key of a tile of which lists say where its rows of A lie, and its steps along k in A and B."""

SPAN = {1: 4, 2: 2}
"""Panels of a wide tile, by rows."""

INDEX = IR.IntType(64)


def lanes(context: Any, real: Any) -> int:
    """Return how many numbers a vector register of the host holds; ``real`` is the type of one."""
    features = context.codegen().magic_tuple()[2]
    octets = 64 if "+avx512f" in features else 32 if "+avx2" in features else 16
    return octets // (4 if isinstance(real, IR.FloatType) else 8)


def fused(context: Any) -> str:
    """Return the operation of the chains: LLVM emulates the fused one, slowly, where the host lacks it."""
    triple, _, features = context.codegen().magic_tuple()
    return "llvm.fma" if "+fma" in features or not triple.startswith("x86") else "llvm.fmuladd"


def splat(builder: Any, value: Any, count: int) -> Any:
    """Return a vector of ``count`` times the same value."""
    vector = IR.VectorType(value.type, count)
    first = builder.insert_element(IR.Constant(vector, IR.Undefined), value, IR.Constant(IR.IntType(32), 0))
    zeros = IR.Constant(IR.VectorType(IR.IntType(32), count), [0] * count)
    return builder.shuffle_vector(first, IR.Constant(vector, IR.Undefined), zeros)


class Vectors:
    """Loads and stores of vectors, of which the last one of a row may be cut."""

    def __init__(self, builder: Any, real: Any, count: int, width: Any | None) -> None:
        self.builder, self.real, self.count = builder, real, count
        self.type = IR.VectorType(real, count)
        self.align = 4 if isinstance(real, IR.FloatType) else 8
        self.mask = None if width is None else self._mask(width)

    def _mask(self, width: Any) -> Any:
        lane = IR.VectorType(INDEX, self.count)
        return self.builder.icmp_unsigned(
            "<", IR.Constant(lane, list(range(self.count))), splat(self.builder, width, self.count)
        )

    def _masked(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return self._call(f"llvm.masked.{name}.v{self.count}f{8 * self.align}.p0", result, arguments)

    def _call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = IR.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(CGUTILS.get_or_insert_function(self.builder.module, kind, name), arguments)

    def chain(self, name: str, left: Any, right: Any, total: Any) -> Any:
        """Return left times right plus total, by the operation ``name``."""
        return self._call(f"{name}.v{self.count}f{8 * self.align}", self.type, [left, right, total])

    def load(self, pointer: Any, cut: bool) -> Any:
        """Return the vector at a pointer to its first number; what is cut is zero."""
        where = self.builder.bitcast(pointer, self.type.as_pointer())
        if not cut:
            return self.builder.load(where, align=self.align)
        align = IR.Constant(IR.IntType(32), self.align)
        zero = IR.Constant(self.type, [0.0] * self.count)
        return self._masked("load", self.type, [where, align, self.mask, zero])

    def store(self, value: Any, pointer: Any, cut: bool) -> None:
        """Store a vector, but for what is cut."""
        where = self.builder.bitcast(pointer, self.type.as_pointer())
        if cut:
            align = IR.Constant(IR.IntType(32), self.align)
            self._masked("store", IR.VoidType(), [value, where, align, self.mask])
        else:
            self.builder.store(value, where, align=self.align)


def tile_function(context: Any, module: Any, real: Any, key: int) -> Any:
    """Return the LLVM function of one tile: C (rows, columns) = or += A B, with all its sums in registers.

    Its arguments are a, sm, sk, b, sp, sb, k, c, distance of C's rows, whether to add, width of the last vector. Of a
    listed one sm, sk and sb are where lists lie: of the first of each row of A, and of each step along k in A and in B.
    """
    rows, kind = key % 8, key % LISTED - key % 8
    vectors = {FULL: 2, WIDE: 2 * SPAN.get(rows, 1), HALF: 1, REMAINDER: 2}[kind]
    pointer = real.as_pointer()
    arguments = [pointer, INDEX, INDEX, pointer, INDEX, INDEX, INDEX, pointer, INDEX, IR.IntType(1), INDEX]
    function = IR.Function(module, IR.FunctionType(IR.VoidType(), arguments), f"tile.{real}.{key}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("optsize")
    _fill_tile(context, function, real, rows, vectors, cut=kind in (HALF, REMAINDER), listed=key >= LISTED)
    return function


def _fill_tile(context: Any, function: Any, real: Any, rows: int, vectors: int, *, cut: bool, listed: bool) -> None:
    a, sm, sk, b, sp, sb, depth, c, distance, add, width = function.args
    start, read, loop, body, done = (
        function.append_basic_block(name) for name in ("start", "read", "loop", "body", "done")
    )
    builder = IR.IRBuilder(start)
    count = lanes(context, real)
    memory = Vectors(builder, real, count, width if cut else None)
    last = [cut and v == vectors - 1 for v in range(vectors)]

    def times(value: Any, factor: int) -> Any:
        return builder.mul(value, IR.Constant(INDEX, factor))

    lines = [builder.gep(a, [_step(builder, sm, IR.Constant(INDEX, m), listed=listed)]) for m in range(rows)]
    columns = [
        builder.gep(b, [builder.add(times(sp, v // 2), IR.Constant(INDEX, v % 2 * count))]) for v in range(vectors)
    ]
    targets = [
        [builder.gep(c, [builder.add(times(distance, m), IR.Constant(INDEX, v * count))]) for v in range(vectors)]
        for m in range(rows)
    ]
    builder.cbranch(add, read, loop)

    builder.position_at_end(read)
    olds = [[memory.load(targets[m][v], last[v]) for v in range(vectors)] for m in range(rows)]
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(INDEX)
    sums = [[builder.phi(memory.type) for _ in range(vectors)] for _ in range(rows)]
    builder.cbranch(builder.icmp_unsigned("<", k, depth), body, done)

    builder.position_at_end(body)
    row = _step(builder, sb, k, listed=listed)
    rights = [memory.load(builder.gep(columns[v], [row]), last[v]) for v in range(vectors)]
    column = _step(builder, sk, k, listed=listed)
    lefts = (splat(builder, builder.load(builder.gep(line, [column])), count) for line in lines)
    news = _more(memory, fused(context), lefts, rights, sums)
    after = builder.add(k, IR.Constant(INDEX, 1))
    builder.branch(loop)
    zero = IR.Constant(memory.type, [0.0] * count)
    for block, value in ((start, IR.Constant(INDEX, 0)), (read, IR.Constant(INDEX, 0)), (body, after)):
        k.add_incoming(value, block)
    _join(sums, ((start, [[zero] * vectors] * rows), (read, olds), (body, news)))

    builder.position_at_end(done)
    for m in range(rows):
        for v in range(vectors):
            memory.store(sums[m][v], targets[m][v], last[v])
    builder.ret_void()


def _step(builder: Any, distance: Any, number: Any, *, listed: bool) -> Any:
    """Return how far on a number of steps leads: so many times the distance, or what the list there says."""
    if not listed:
        return builder.mul(number, distance)
    return builder.load(builder.gep(builder.inttoptr(distance, INDEX.as_pointer()), [number]))


def _more(memory: Vectors, operation: str, lefts: Iterable[Any], rights: list[Any], sums: Any) -> list[list[Any]]:
    """Return all sums with one more product each; each left operand is loaded when its row has its turn."""
    pairs = zip(lefts, sums, strict=True)
    return [
        [memory.chain(operation, left, right, total) for right, total in zip(rights, line, strict=True)]
        for left, line in pairs
    ]


def _join(sums: list[list[Any]], sources: Any) -> None:
    """Let every sum be what the block before it has made of it."""
    for m, line in enumerate(sums):
        for v, total in enumerate(line):
            for block, values in sources:
                total.add_incoming(values[m][v], block)


def call_tile(context: Any, builder: Any, signature: Any, arguments: Any, keys: tuple[int, ...]) -> Any:
    """Call the tile of the key that comes first of the arguments, one of ``keys``."""
    a, b, c = (signature.args[position] for position in (1, 5, 10))
    key, a_, oa, sm, sk, b_, ob, sp, sb, k, c_, oc, sc, add, width = arguments
    real = context.get_data_type(a.dtype)
    call = [element(context, builder, a, a_, oa), sm, sk, element(context, builder, b, b_, ob), sp, sb, k]
    call += [element(context, builder, c, c_, oc), sc, add, width]
    end = builder.append_basic_block("end")
    switch = builder.switch(key, end)
    for number in keys:
        case = builder.append_basic_block(f"tile.{number}")
        switch.add_case(IR.Constant(key.type, number), case)
        builder.position_at_end(case)
        known = builder.module.globals.get(f"tile.{real}.{number}")
        builder.call(known or tile_function(context, builder.module, real, number), call)
        builder.branch(end)
    builder.position_at_end(end)
    return context.get_dummy_value()


def tile_of(keys: tuple[int, ...]) -> Any:
    """Return the function that computes one tile of C, of any of the keys: rows plus what is covered.

    Its arguments are the key, then a, oa, sm, sk, b, ob, sp, sb, k, c, oc, sc, add, and the columns of the last vector.
    """
    n = TYPES.intp

    def tile(
        typing: Any,
        key: Any,
        a: Any,
        oa: Any,
        sm: Any,
        sk: Any,
        b: Any,
        ob: Any,
        sp: Any,
        sb: Any,
        k: Any,
        c: Any,
        oc: Any,
        sc: Any,
        add: Any,
        width: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return call_tile(context, builder, signature, arguments, keys)

        return TYPES.void(n, a, n, n, n, b, n, n, n, n, c, n, n, TYPES.boolean, n), generate

    return intrinsic(tile)


KEYS = tuple(kind + rows for kind in (FULL, HALF, REMAINDER) for rows in range(1, ROWS + 1))
tile, listed_tile = tile_of(KEYS), tile_of(tuple(LISTED + key for key in KEYS))
wide_tile = tile_of(tuple(WIDE + rows for rows in SPAN))


@intrinsic
def panel_width(typing: Any, array: Any) -> Any:
    """Return the columns of a panel of numbers like the array's."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return IR.Constant(INDEX, 2 * lanes(context, context.get_data_type(array.dtype)))

    return TYPES.intp(array), generate


@jit
def packed_size(like: Any, k: int, n: int) -> int:
    """Return the numbers that a packed B (k, n) takes, of the number format of the array ``like``."""
    width: int = panel_width(like)
    return k * width * ((n + width - 1) // width)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of a square block, given its rows: each pass interleaves the rows of its two halves."""
    count = len(rows)
    halves = [
        IR.Constant(IR.VectorType(IR.IntType(32), count), [i // 2 + i % 2 * count + first for i in range(count)])
        for first in (0, count // 2)
    ]
    for _ in range(count.bit_length() - 1):
        pairs = zip(rows[: count // 2], rows[count // 2 :], strict=True)
        rows = [builder.shuffle_vector(one, other, half) for one, other in pairs for half in halves]
    return rows


@intrinsic
def store_transposed(typing: Any, b: Any, ob: Any, sn: Any, out: Any, oo: Any, width: Any) -> Any:
    """Copy a square block of as many rows as a vector has numbers, ``sn`` apart, so that they become columns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        b_, first, apart, out_, place, step = arguments
        real = context.get_data_type(b.dtype)
        count = lanes(context, real)
        memory = Vectors(builder, real, count, None)
        begin = [builder.add(first, builder.mul(apart, IR.Constant(INDEX, row))) for row in range(count)]
        rows = [memory.load(element(context, builder, b, b_, at), cut=False) for at in begin]
        for number, column in enumerate(_transposed(builder, rows)):
            at = builder.add(place, builder.mul(step, IR.Constant(INDEX, number)))
            memory.store(column, element(context, builder, out, out_, at), cut=False)
        return context.get_dummy_value()

    n = TYPES.intp
    return TYPES.void(b, n, n, out, n, n), generate


@jit
def pack_panel(b: Any, ob: int, sk: int, sn: int, k: int, n: int, out: Any, oo: int) -> None:
    """Copy at most a panel's columns of B to k rows of a panel's width, filled up with zeros."""
    width, done = panel_width(out), 0
    if n == width and sn == 1:
        for row in range(k):
            for column in range(width):
                store(out, oo + row * width + column, load(b, ob + row * sk + column))
        return
    if n == width and sk == 1:
        half = width // 2
        for row in range(0, k - half + 1, half):
            store_transposed(b, ob + row, sn, out, oo + row * width, width)
            store_transposed(b, ob + row + half * sn, sn, out, oo + row * width + half, width)
        done = k // half * half
    for row in range(done, k):
        for column in range(n):
            store(out, oo + row * width + column, load(b, ob + row * sk + column * sn))
        for column in range(n, width):
            store(out, oo + row * width + column, 0.0)


@jit
def pack(b: Any, ob: int, sk: int, sn: int, k: int, n: int, out: Any, oo: int) -> None:
    """Pack B (k, n), whose element (k, n) lies at ``ob + k sk + n sn``: so W and its transpose both pack from W."""
    width = panel_width(out)
    for first in range(0, n, width):
        pack_panel(b, ob + first * sn, sk, sn, k, min(width, n - first), out, oo + first * k)


@jit
def rows_of_tiles(
    a: Any,
    oa: int,
    sm: int,
    sk: int,
    b: Any,
    ob: int,
    sb: int,
    k: int,
    n: int,
    m: int,
    c: Any,
    oc: int,
    sc: int,
    add: bool,
) -> None:
    """Compute at most a panel's columns of C (m, n), in tiles of nearly equal numbers of rows."""
    width = panel_width(b)
    half = width // 2
    kind = FULL if n == width else HALF if n <= half else REMAINDER
    last = n if n <= half else n - half
    tiles = (m + ROWS - 1) // ROWS
    rows, longer = m // max(tiles, 1), m % max(tiles, 1)
    row = 0
    for index in range(tiles):
        count = rows + 1 if index < longer else rows
        tile(kind + count, a, oa + row * sm, sm, sk, b, ob, 0, sb, k, c, oc + row * sc, sc, add, last)
        row += count


@intrinsic
def octet(typing: Any, array: Any, index: Any) -> Any:
    """Return where an element lies in memory, counted in bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(element(context, builder, array, *arguments), INDEX)

    return TYPES.intp(array, TYPES.intp), generate


@jit
def product_listed(
    memory: Any,
    table: Any,
    a: int,
    rows: int,
    left: int,
    b: int,
    sp: int,
    right: int,
    k: int,
    n: int,
    m: int,
    c: int,
    sc: int,
) -> None:
    """Add A (m, k) times B (k, n) to C (m, n), rows ``sc`` apart, of which lists in the table say where they lie.

    Element (m, k) of A lies at ``a + rows[m] + left[k]``, element j of row k of panel p of B at
    ``b + p sp + right[k] + j``.
    """
    width = panel_width(memory)
    half, tiles = width // 2, (m + ROWS - 1) // ROWS
    for column in range(0, n, width):
        count, at = min(width, n - column), b + column // width * sp
        kind = FULL if count == width else HALF if count <= half else REMAINDER
        last, row = count if count <= half else count - half, 0
        for number in range(tiles):
            some = m // tiles + int(number < m % tiles)
            key, lists = LISTED + kind + some, octet(table, rows + row)
            goal, steps = c + row * sc + column, octet(table, left)
            own = octet(table, right)
            listed_tile(key, memory, a, lists, steps, memory, at, 0, own, k, memory, goal, sc, True, last)
            row += some


@jit
def wide_tiles(
    a: Any,
    oa: int,
    sm: int,
    sk: int,
    b: Any,
    ob: int,
    sp: int,
    sb: int,
    k: int,
    n: int,
    m: int,
    c: Any,
    oc: int,
    sc: int,
    add: bool,
) -> int:
    """Compute columns of C for at most 3 rows, as far as several panels at once go; return how many columns."""
    width: int = panel_width(b)
    span = 4 if m == 1 else 2
    panel = 0
    while (panel + span) * width <= n:
        wide_tile(WIDE + m, a, oa, sm, sk, b, ob + panel * sp, sp, sb, k, c, oc + panel * width, sc, add, 0)
        panel += span
    return panel * width


@jit
def product(
    a: Any,
    oa: int,
    sm: int,
    sk: int,
    b: Any,
    ob: int,
    sp: int,
    sb: int,
    k: int,
    n: int,
    m: int,
    c: Any,
    oc: int,
    sc: int,
    add: bool,
) -> None:
    """Compute C (m, n), rows ``sc`` apart, as A (m, k) times B (k, n) in panels; ``add`` adds it to what C holds."""
    width = panel_width(b)
    for deep in range(0, max(k, 1), DEPTH):
        depth = min(DEPTH, k - deep)
        more = add or deep > 0
        left, right = oa + deep * sk, ob + deep * sb
        first = 0
        if 0 < m <= 2:
            first = wide_tiles(a, left, sm, sk, b, right, sp, sb, depth, n, m, c, oc, sc, more)
        for column in range(first, n, width):
            at, count = right + column // width * sp, min(width, n - column)
            rows_of_tiles(a, left, sm, sk, b, at, sb, depth, count, m, c, oc + column, sc, more)


@jit
def product_packed(
    a: Any, oa: int, sm: int, sk: int, b: Any, ob: int, k: int, n: int, m: int, c: Any, oc: int, sc: int, add: bool
) -> None:
    """Compute C (m, n) = or += A (m, k) times a packed B (k, n)."""
    width = panel_width(b)
    product(a, oa, sm, sk, b, ob, k * width, width, k, n, m, c, oc, sc, add)


@jit
def slab_of_tiles(
    a: Any, oa: int, sm: int, sk: int, b: Any, ob: int, k: int, n: int, m: int, c: Any, oc: int, sc: int, add: bool
) -> None:
    """Compute C (m, n) from a packed B that stays near, row after row: C is walked through in the order of memory."""
    width = panel_width(b)
    row = 0
    while row < m:
        count = min(ROWS, m - row)
        for column in range(0, n, width):
            at, left = oc + row * sc + column, oa + row * sm
            rows_of_tiles(a, left, sm, sk, b, ob + column * k, width, k, min(width, n - column), count, c, at, sc, add)
        row += count


@jit
def product_unpacked(
    a: Any,
    oa: int,
    sm: int,
    sk: int,
    b: Any,
    ob: int,
    sb: int,
    k: int,
    n: int,
    m: int,
    c: Any,
    oc: int,
    sc: int,
    add: bool,
    scratch: Any,
    at: int,
) -> None:
    """Compute C (m, n) = or += A (m, k) times a row-major B (k, n), rows ``sb`` apart.

    B is packed, when it is used by many rows, a slab at a time into ``SLAB`` numbers of scratch from ``at`` on.
    """
    width = panel_width(b)
    if m <= 2 * ROWS:
        product(a, oa, sm, sk, b, ob, width, sb, k, n, m, c, oc, sc, add)
        return
    for deep in range(0, max(k, 1), DEPTH):
        depth = min(DEPTH, k - deep)
        columns = SLAB // max(depth, 1) // width * width
        for first in range(0, n, columns):
            count = min(columns, n - first)
            pack(b, ob + deep * sb + first, sb, 1, depth, count, scratch, at)
            left, more = oa + deep * sk, add or deep > 0
            slab_of_tiles(a, left, sm, sk, scratch, at, depth, count, m, c, oc + first, sc, more)
