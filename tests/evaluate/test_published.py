"""Published curves are curves, and BD-rates between them are those their authors and readers state."""

from __future__ import annotations

from fastlic.evaluate.published import Curve, compare, kodak


def test_curves_rise_and_name_their_source():
    curves = {curve.name: curve for curve in kodak()}
    assert set(curves) == {"mbt2018", "MLIC+", "MLIC++", "VTM", "BPG 4:4:4"}
    for curve in curves.values():
        assert curve.source and all(
            a[0] < b[0] and a[1] < b[1] for a, b in zip(curve.points, curve.points[1:], strict=False)
        )


def test_mlicpp_against_vtm_is_fifteen_per_cent_as_the_literature_says():
    curves = {curve.name: curve for curve in kodak()}
    vtm = Curve("VTM", "", curves["VTM"].points[:6])
    assert compare(vtm, list(curves["MLIC++"].points)).startswith("-15.0")


def test_a_comparison_that_is_not_defined_says_why():
    assert "share no range" in compare(kodak()[0], [(0.1, 10.0), (0.2, 11.0)])
