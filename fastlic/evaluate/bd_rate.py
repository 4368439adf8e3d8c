"""Bjøntegaard's rate difference: how many per cent fewer bits one curve needs than another for the same quality.

BD = exp( 1/(D1 - D0) * integral over [D0, D1] of (ln R_test(D) - ln R_anchor(D)) dD ) - 1

[D0, D1] is the overlap of both distortion ranges, ln R is interpolated by monotone piecewise cubics (PCHIP: Fritsch
and Butland 1984), as JVET's common test conditions do; unlike one cubic through all points, those cannot overshoot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def bd_rate(
    anchor: Sequence[tuple[float, float]],  # (bpp, dB) points, any order
    test: Sequence[tuple[float, float]],
) -> float:
    """Per cent of bits that ``test`` needs more (positive) or fewer (negative) than ``anchor``.

    Raises:
        ValueError: fewer than two points on a curve, no overlap in quality, or a quality that falls as rate rises.
    """
    curves = [_by_quality(anchor, "anchor"), _by_quality(test, "test")]
    low = max(quality[0] for quality, _ in curves)
    high = min(quality[-1] for quality, _ in curves)
    if high <= low:
        ranges = " and ".join(f"{quality[0]:.2f} to {quality[-1]:.2f} dB" for quality, _ in curves)
        raise ValueError(f"the curves share no range of quality: {ranges}")
    areas = [_integral(quality, log_rate, low, high) for quality, log_rate in curves]
    return 100 * float(np.expm1((areas[1] - areas[0]) / (high - low)))


def _by_quality(points: Sequence[tuple[float, float]], name: str) -> tuple[Array, Array]:
    """(quality, ln rate), both rising."""
    if len(points) < 2:
        raise ValueError(f"the {name} curve needs at least two points, got {len(points)}")
    rate, quality = np.array(sorted(points), dtype=np.float64).T
    if not np.all(np.isfinite(rate) & np.isfinite(quality)) or rate[0] <= 0:
        raise ValueError(f"the {name} curve must hold finite qualities and positive rates")
    if np.any(np.diff(quality) <= 0):
        raise ValueError(f"the {name} curve's quality must rise with its rate")
    return quality, np.log(rate)


def _slopes(x: Array, y: Array) -> Array:
    """PCHIP derivatives at the knots: weighted harmonic means inside, one-sided and shape-preserving at both ends."""
    h, delta = np.diff(x), np.diff(y) / np.diff(x)
    if len(x) == 2:
        return np.array([delta[0], delta[0]])
    slopes = np.zeros_like(x)
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    same_sign = delta[:-1] * delta[1:] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        harmonic = (w1 + w2) / (w1 / delta[:-1] + w2 / delta[1:])
    slopes[1:-1] = np.where(same_sign, harmonic, 0.0)
    slopes[0] = _end_slope(h[0], h[1], delta[0], delta[1])
    slopes[-1] = _end_slope(h[-1], h[-2], delta[-1], delta[-2])
    return slopes


def _end_slope(h0: float, h1: float, d0: float, d1: float) -> float:
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    if slope * d0 <= 0:
        return 0.0
    if d0 * d1 <= 0 and abs(slope) > 3 * abs(d0):
        return 3 * d0
    return slope


def _integral(x: Array, y: Array, low: float, high: float) -> float:
    """Integral of the PCHIP through (x, y) over [low, high], which lies within the knots."""
    slopes = _slopes(x, y)
    total = 0.0
    for i in range(len(x) - 1):
        left, right = max(low, x[i]), min(high, x[i + 1])
        if right > left:
            h = x[i + 1] - x[i]
            c = (3 * (y[i + 1] - y[i]) / h - 2 * slopes[i] - slopes[i + 1]) / h
            d = (slopes[i] + slopes[i + 1] - 2 * (y[i + 1] - y[i]) / h) / h**2
            # y_i + slope s + c s^2 + d s^3, integrated in s = x - x_i
            upper, lower = (
                s * (y[i] + s * (slopes[i] / 2 + s * (c / 3 + s * d / 4))) for s in (right - x[i], left - x[i])
            )
            total += upper - lower
    return total
