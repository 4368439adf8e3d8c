"""Every instruction set that this processor has, forced in turn."""

from __future__ import annotations

import pytest

from fastlic import _native


@pytest.fixture(params=_native.supported_isas())
def isa(request):
    before = _native.get_isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)
