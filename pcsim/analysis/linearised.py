"""The dynamics of standard predictive coding near its limit: a linear map from tick to tick, and its eigenvalues.

What a run holds is its values and the messages under way, and these are made of values that were. So near the limit the
deviations ``z(t) = (x(t), x(t-1) .. x(t-D))`` follow ``z(t+1) = A z(t)``, A a companion matrix: its first rows are
``1 + gamma F_d`` and ``gamma F_d``, F_d the slope of the force in the values of d ticks ago, and the others pass values
on by a tick. Where all eigenvalues of A lie within the unit circle the limit is stable, and the largest of them is the
factor by which the distance shrinks in a tick. Samples are apart; small matrices are solved whole, large ones by
products alone (ARPACK), in which no matrix is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.analysis.dynamics import Dynamics

Array = np.ndarray

MOST_DENSE = 600
"""Numbers of a companion matrix up to which all its eigenvalues are worked out."""
MOST_BLOCKS = 8_000_000
"""Numbers in the slopes of all samples, beyond which they are not written out."""
LEADING = 6
"""Eigenvalues that are worked out of a large matrix."""
FEWEST_TICKS = 8
"""Ticks that a product with a large matrix takes at least; with delays, as many as the longest."""
MOST_RESTARTS = 60
"""Restarts after which an eigenvalue of a large matrix is given up."""
SAME = 1e-8
"""Samples whose slopes differ by less than this have the same eigenvalues."""
MOST_SCANNED = 300
"""Units of a sample up to which all frequencies are looked at."""
FREQUENCIES, FEWEST_FREQUENCIES = 24, 192
"""Frequencies that are looked at for each tick of delay, and at least."""


class NotKnownError(Exception):
    """Eigenvalues that could not be worked out."""


@dataclass(frozen=True)
class Linearised:
    """The slopes at a limit.

    Attributes
    ----------
    point : (batch, units)
    """

    dynamics: Dynamics
    point: Array

    @cached_property
    def written(self) -> bool:
        """Whether the slopes are few enough to be written out."""
        one = self.dynamics
        return one.batch * one.size * (one.size + one.errors) * len(one.late) <= MOST_BLOCKS

    @cached_property
    def slopes(self) -> Mapping[int, tuple[Array, Array]]:
        """{delay: slopes of force and errors}: those that are zero everywhere are left out, but for delay 0."""
        found = {late: self.dynamics.slopes(self.point, late) for late in self.dynamics.late}
        return {late: pair for late, pair in found.items() if late == 0 or any(array.any() for array in pair)}

    @cached_property
    def depth(self) -> int:
        """The longest delay after which a value moves anything."""
        return max(self.slopes) if self.written else self.dynamics.depth

    @cached_property
    def samples(self) -> list[int]:
        """One of each kind of sample: those whose slopes are the same need not be looked at twice."""
        return [int(np.argmax(self.kinds == kind)) for kind in range(int(self.kinds.max(initial=-1)) + 1)]

    @cached_property
    def kinds(self) -> Array:
        """The number of each sample's kind, (batch,)."""
        parts = [force for force, _ in self.slopes.values()]
        firsts: list[int] = []
        found: list[int] = []
        for sample in range(self.dynamics.batch):
            alike = [number for number, kept in enumerate(firsts)
                     if all(np.allclose(part[sample], part[kept], rtol=SAME, atol=SAME) for part in parts)]  # fmt: skip
            if not alike:
                firsts.append(sample)
            found.append(alike[0] if alike else len(firsts) - 1)
        return np.array(found, int)

    def companion(self, step_size: float, samples: list[int]) -> Array:
        """Return the matrices of some samples: (samples, units (D + 1), units (D + 1))."""
        units = self.dynamics.size
        found = np.zeros((len(samples), units * (self.depth + 1), units * (self.depth + 1)))
        for late, (force, _) in self.slopes.items():
            found[:, :units, units * late : units * (late + 1)] = step_size * force[samples]
        here = np.arange(found.shape[1])
        found[:, here[:units], here[:units]] += 1
        found[:, here[units:], here[:-units]] = 1
        return found

    @property
    def dense(self) -> bool:
        """Whether all eigenvalues are worked out."""
        return self.written and self.dynamics.size * (self.depth + 1) <= MOST_DENSE

    @cached_property
    def curvature(self) -> Array:
        """Without delays, the eigenvalues of minus the slope of the force: (samples, units)."""
        return np.linalg.eigvals(-self.slopes[0][0][self.samples])

    def leading(self, step_size: float) -> Array:
        """Return eigenvalues of one tick, the largest first; raises NotKnownError where they were not found."""
        if not self.dynamics.size:
            return np.zeros(1)
        if self.dense and not self.depth:
            found = (1 - step_size * self.curvature).ravel()
        elif self.dense:
            found = np.linalg.eigvals(self.companion(step_size, self.samples)).ravel()
        else:
            found = self._sought(step_size)
        return np.asarray(found[np.argsort(-np.abs(found))])

    def radius(self, step_size: float) -> float:
        """Return the factor by which the distance from the limit shrinks in a tick, in the end; above 1 it grows."""
        return float(np.abs(self.leading(step_size)[0]))

    def _sought(self, step_size: float) -> Array:
        """Return the largest eigenvalues of a tick, by products with the matrix alone.

        What is sought are those of many ticks in one: they have the same vectors, and lie further apart.
        """
        from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

        shape = (self.depth + 1, self.dynamics.batch, self.dynamics.size)
        count, ticks = int(np.prod(shape)), max(FEWEST_TICKS, self.depth)
        operator = LinearOperator(
            (count, count), matvec=lambda flat: self._after(flat.reshape(shape), step_size, ticks).ravel(), dtype=float
        )
        start = np.random.default_rng(0).normal(size=count)
        asked = min(LEADING, count - 2)
        try:
            _, vectors = eigs(
                operator, asked, which="LM", v0=start, ncv=min(count, 40), tol=1e-9, maxiter=MOST_RESTARTS
            )
        except ArpackNoConvergence as error:
            vectors = np.asarray(error.eigenvectors)
        except (ArpackError, ValueError):
            raise NotKnownError from None
        if not vectors.size:
            raise NotKnownError
        ways = vectors.T.reshape(-1, *shape)
        after = [
            sum(part * self._after(getattr(one, name), step_size, 1) for part, name in ((1, "real"), (1j, "imag")))
            for one in ways
        ]
        return np.array([np.vdot(one, two) / np.vdot(one, one) for one, two in zip(ways, after, strict=True)])

    def _after(self, ways: Array, step_size: float, ticks: int) -> Array:
        """Return the deviations some ticks later, from those of the last ticks, the newest first."""
        lines = [*ways[::-1]]
        for _ in range(ticks):
            if self.written:
                move = sum(np.einsum("buv,bv->bu", force, lines[-1 - late]) for late, (force, _) in self.slopes.items())
            else:
                move = self.dynamics.along(self.point, np.asarray(lines[: -len(ways) - 1 : -1]))
            lines.append(lines[-1] + step_size * move)
        return np.asarray(lines[: -len(ways) - 1 : -1])

    @cached_property
    def stable_below(self) -> float:
        """The step size from which on the limit is no longer stable; NaN: it never is, infinite: it always is.

        Raises NotKnownError.
        """
        if not self.dynamics.size:
            return float("inf")
        if self.dense and not self.depth:
            return below(self.curvature)
        if not self.depth:
            return below(np.array([self._steepest()]))
        if not self.written or self.dynamics.size > MOST_SCANNED:
            raise NotKnownError
        forces = {late: force[self.samples] for late, (force, _) in self.slopes.items()}
        if (np.linalg.eigvals(-sum(forces.values(), np.zeros(1))).real <= 0).any():
            return float("nan")
        return float(min(_first_crossing({late: force[sample] for late, force in forces.items()}, self.depth)
                         for sample in range(len(self.samples))))  # fmt: skip

    def _steepest(self) -> float:
        """Return the largest eigenvalue of minus the slope of the force, without delays, by products alone."""
        from scipy.sparse.linalg import ArpackError, LinearOperator, eigs

        shape = (self.dynamics.batch, self.dynamics.size)
        count = int(np.prod(shape))

        def product(flat: Array) -> Array:
            ways = flat.reshape(1, *shape)
            return np.asarray((ways[0] - self._after(ways, 1.0, 1)[0]).ravel())

        operator = LinearOperator((count, count), matvec=product, dtype=float)
        start = np.random.default_rng(0).normal(size=count)
        try:
            return float(np.abs(eigs(operator, 1, which="LM", v0=start, tol=1e-4, return_eigenvectors=False)[0]))
        except ArpackError:
            raise NotKnownError from None

    def fastest(self, most: float) -> tuple[float, float]:
        """Return the step size at which the distance shrinks fastest, and the factor by which it does so in a tick.

        Raises NotKnownError where the matrix is so large that this would take too long.
        """
        if not self.dense:
            raise NotKnownError
        from scipy.optimize import minimize_scalar

        grid = most * np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97])
        seen = [self.radius(step) for step in grid]
        best = int(np.argmin(seen))
        low, high = grid[max(best - 1, 0)], grid[best + 1] if best + 1 < len(grid) else most
        tuned = minimize_scalar(self.radius, bounds=(low, high), method="bounded", options={"xatol": 1e-3 * most})
        return (float(tuned.x), float(tuned.fun)) if tuned.fun < seen[best] else (float(grid[best]), seen[best])


def below(curvature: Array) -> float:
    """Return the step size below which ``|1 - gamma lambda| < 1`` for every eigenvalue; NaN where there is none."""
    real, size = curvature.real, np.abs(curvature)
    return float(np.min(2 * real / size**2)) if (real > 0).all() else float("nan")


def _first_crossing(forces: Mapping[int, Array], depth: int) -> float:
    """Return the least step size at which an eigenvalue of a tick lies on the unit circle.

    ``z = exp(i theta)`` is one where ``(z - 1) v = gamma F(z) v`` with ``F(z) = sum of F_d z^-d``: where an eigenvalue
    of ``F(z) / (z - 1)`` is ``1 / gamma``, real and above zero. Eigenvalues are followed from frequency to frequency.
    """
    count = max(FEWEST_FREQUENCIES, FREQUENCIES * depth)
    z = np.exp(1j * np.pi * np.arange(1, count + 1) / count)
    z[-1] = -1
    whole = sum(force[None] * (z**-late)[:, None, None] for late, force in forces.items())
    found = np.linalg.eigvals(whole / (z - 1)[:, None, None])
    last = found[-1][(found[-1].real > 0) & (np.abs(found[-1].imag) <= 1e-6 * np.abs(found[-1]))]
    here, nearest = found[:-1], np.abs(found[:-1, :, None] - found[1:, None, :]).argmin(axis=2)
    there = np.take_along_axis(found[1:], nearest, axis=1)
    crosses = here.imag * there.imag < 0
    with np.errstate(all="ignore"):
        share = here.imag / (here.imag - there.imag)
    at = (here.real + share * (there.real - here.real))[crosses]
    largest = max(float(np.max(at, initial=0.0)), float(np.max(last.real, initial=0.0)))
    return 1 / largest if largest > 0 else float("inf")
