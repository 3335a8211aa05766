"""Logarithmic axes that say what they mean: whole decades, and a place of its own for exact zeros."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes
    from matplotlib.ticker import ScalarFormatter

Array = np.ndarray
STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
FINE = 4
"""Up to so many decades have marks between the powers of ten."""
LEAST, MOST = 1e-200, 1e290
"""An axis ends here, whatever the values: with its margins it stays within the number format."""


@dataclass(frozen=True)
class Decades:
    """The decades ``10**low`` to ``10**high``, and the height at which zeros are drawn, if there are any."""

    low: int
    high: int
    zero: float | None

    def heights(self, values: Array) -> Array:
        """Return values as they are drawn: zeros at the zero line, what is no number left out."""
        shown = np.where(np.isfinite(values), values, np.nan)
        return shown if self.zero is None else np.where(shown == 0, self.zero, shown)


def decades(values: Array, others: Iterable[float] = ()) -> Decades:
    """Return the decades that hold all positive values (and ``others``), with a line for the zeros."""
    positive = values[np.isfinite(values) & (values > 0)]
    ends = [float(end) for end in (*others, *((positive.min(), positive.max()) if positive.size else ()))]
    ends = [min(max(end, LEAST), MOST) for end in ends if end > 0] or [1.0]
    low, high = floor(log10(min(ends))), ceil(log10(max(ends)))
    low -= 1 if low == high else 0
    gap = max(1, round(0.14 * (high - low)))
    return Decades(low, high, 10.0 ** (low - gap) if (values == 0).any() else None)


def draw_decades(axes: Axes, span: Decades, zero_label: str, most: int = 8) -> None:
    """Give the y axis these decades, up to ``most`` of them by number, and the zero line its name."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    axes.set_yscale("log", nonpositive="clip")
    _set_limits(axes, span)
    step = next(step for step in STEPS if most * step > span.high - span.low)
    powers = [power for power in range(span.low, span.high + 1) if power % step == 0]
    ticks, labels = [10.0**power for power in powers], [power_of_ten(power) for power in powers]
    if span.zero is not None:
        axes.axhline(span.zero, color="#7F7F7F", linewidth=0.8, linestyle=":", zorder=1)
        ticks, labels = [*ticks, span.zero], [*labels, zero_label]
    axes.set_yticks(ticks, labels)
    axes.yaxis.set_minor_locator(LogLocator(subs="auto") if span.high - span.low <= FINE else NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def power_of_ten(power: int) -> str:
    """Return 10 to a power as plain text, which is laid out in a tenth of a formula's time.

    >>> power_of_ten(-12)
    '10⁻¹²'
    """
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _set_limits(axes: Axes, span: Decades) -> None:
    bottom = span.low if span.zero is None else log10(span.zero)
    pad = 0.03 * (span.high - bottom)
    axes.set_ylim(10.0 ** (bottom - pad), 10.0 ** (span.high + pad))


def whole_numbers() -> ScalarFormatter:
    """Return a formatter of whole numbers: plain text, of which the layout takes a fifth of a formula's time."""
    from matplotlib.ticker import ScalarFormatter

    formatter = ScalarFormatter(useOffset=False, useMathText=False)
    formatter.set_scientific(False)
    return formatter


def whole_ticks(axes: Axes, ticks: Array, most: int = 8) -> None:
    """Give the x axis the simulation's ticks: whole numbers, from the first to the last."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(whole_numbers())
    axes.set_xlabel("tick")
    if ticks.size:
        first, last = float(ticks.min()), float(ticks.max())
        pad = max(0.02 * (last - first), 0.5 if last == first else 0)
        axes.set_xlim(first - pad, last + pad)
