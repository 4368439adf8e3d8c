"""The benchmarks of the MLIC family at sizes that cost nothing: they run, and their peers compute the same thing."""

from __future__ import annotations

import pytest
import torch

from fastlic.bench import memory
from fastlic.bench.runner import measure
from fastlic.bench.suites import mlic
from fastlic.codec import mlicpp_official
from fastlic.lifelike.models import photo

N, M, SIZE = 8, 64, (64, 128)


def test_every_case_runs_beside_its_peer():
    seen = []
    for case in mlic.cases(lambda name: True, (N, M), SIZE):
        result = measure(case, 0.01, least=1, most=1)
        assert result.ratio is not None and result.ratio > 0
        seen.append(case.name)
    assert len(seen) == 5 and "local context, one slice of 64x128" in seen


def test_the_peer_decodes_what_it_encoded():
    floats, _ = mlic.models(mlic.MLICPlusPlus, N, M)
    mlicpp_official.update(floats)
    x = photo()[None, :, : SIZE[0], : SIZE[1]].contiguous()
    with torch.no_grad():
        y = floats.g_a(x)
        encode, decode = mlic.official(floats, floats.hyper_analysis(y), y)
        assert encode()["strings"] == mlicpp_official.compress(floats, x)["strings"]
        assert decode().shape == y.shape and (decode() - y).abs().max() < 2


def test_peak_memory_is_what_a_call_needs():
    peak = memory.peak(lambda: torch.ones(25_000_000).sum())
    if peak is None:
        pytest.skip("this system does not tell")
    assert 80e6 < peak < 150e6
