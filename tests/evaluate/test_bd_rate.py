"""BD-rate against closed forms and one published implementation's value."""

from __future__ import annotations

import math

import pytest

from fastlic.evaluate import bd_rate

CURVE = [(0.25, 28.0), (0.5, 31.5), (1.0, 35.0), (1.8, 38.25)]


def test_a_curve_equals_itself_and_order_does_not_matter():
    assert bd_rate(CURVE, CURVE) == 0
    assert bd_rate(CURVE, CURVE[::-1]) == 0


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.25, 3.0])
def test_a_curve_of_scaled_rates_differs_by_exactly_that_factor(factor):
    scaled = [(factor * rate, quality) for rate, quality in CURVE]
    assert bd_rate(CURVE, scaled) == pytest.approx(100 * (factor - 1), rel=1e-12)
    assert bd_rate(scaled, CURVE) == pytest.approx(100 * (1 / factor - 1), rel=1e-12)


def test_two_points_give_the_mean_of_a_straight_line():
    # ln R: q / 10 against q / 10 + (q - 30) / 100, which over [30, 40] differ by 0.05 on average.
    anchor = [(math.exp(3.0), 30.0), (math.exp(4.0), 40.0)]
    test = [(math.exp(3.0), 30.0), (math.exp(4.1), 40.0)]
    assert bd_rate(anchor, test) == pytest.approx(100 * (math.exp(0.05) - 1), rel=1e-12)


def test_only_the_overlap_counts():
    anchor = [(math.exp(q / 10), q) for q in (20.0, 30.0)]
    test = [(0.8 * math.exp(q / 10), q) for q in (25.0, 45.0)]
    assert bd_rate(anchor, test) == pytest.approx(-20, rel=1e-12)


def test_the_value_of_an_independent_implementation_is_met():
    # bjontegaard 1.3.0: bd_rate(..., method="pchip"), which interpolates with scipy's PchipInterpolator.
    test = [(0.2, 28.5), (0.42, 32.25), (0.85, 36.0), (1.5, 39.5)]
    assert bd_rate(CURVE, test) == pytest.approx(-28.527360541048385, rel=1e-12)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (CURVE[:1], "at least two points"),
        ([(0.1, 40.0), (0.2, 45.0)], "share no range"),
        ([(0.1, 30.0), (0.2, 30.0)], "must rise"),
        ([(0.1, 30.0), (0.2, 29.0)], "must rise"),
        ([(0.0, 30.0), (0.2, 31.0)], "positive rates"),
        ([(0.1, 30.0), (0.2, math.inf)], "finite"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        bd_rate(CURVE, points)
