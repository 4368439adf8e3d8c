"""Every instruction set that this processor has, forced in turn."""

from __future__ import annotations

import pytest

from fastlic import _native

ISAS = ["scalar", "avx2", "avx512", "avx512vnni"]


@pytest.fixture(params=ISAS)
def isa(request):
    before = _native.get_isa()
    if ISAS.index(request.param) > ISAS.index(_native.best_isa()):
        pytest.skip(f"this processor has no {request.param}")
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)
