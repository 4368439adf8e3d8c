"""Fitted tables: they follow the symbols, they fall back to Gaussians, and they save real bytes."""

from __future__ import annotations

import numpy as np
import torch

from fastlic import Codec
from fastlic.entropy.fitting import fit_tables
from fastlic.entropy.scales import scale_levels
from fastlic.ops.rans import rans_encode
from fastlic.ops.tables import gaussian_tables

from .latent_models import encode


def test_rows_without_data_are_the_gaussians_of_their_levels():
    levels = scale_levels()[::8]
    fitted, plain = fit_tables(levels, []), gaussian_tables(levels)
    assert np.array_equal(fitted.lengths, plain.lengths) and np.array_equal(fitted.shifts, plain.shifts)
    assert np.abs(fitted.cdf - plain.cdf).max() <= 1


def test_symbols_that_are_no_gaussians_cost_fewer_bytes_under_fitted_tables():
    generator = np.random.default_rng(0)
    levels = scale_levels()
    indexes = generator.integers(0, 30, 40000).astype(np.uint8)
    # Laplacian symbols of two thirds of the predicted scale: what an overcautious scale predictor leaves behind.
    symbols = np.rint(generator.laplace(0, levels[indexes] / 2**0.5 * 0.67)).astype(np.int64)
    train, test = slice(0, 20000), slice(20000, None)
    fitted = fit_tables(levels, [(indexes[train], symbols[train])])
    sizes = [len(rans_encode(symbols[test], indexes[test], tables)) for tables in (fitted, gaussian_tables(levels))]
    assert sizes[0] < 0.95 * sizes[1]


def test_a_codec_calibrated_on_an_image_codes_it_smaller_than_with_plain_gaussians(codec: Codec, photo: torch.Tensor):
    from dataclasses import replace

    z, y, _ = codec.analyse(photo, 5.0).target
    plain = replace(codec.entropy, y_tables=gaussian_tables(scale_levels()))
    fitted = len(encode(codec.entropy, z, y)[0][1])
    assert fitted < len(encode(plain, z, y)[0][1])
