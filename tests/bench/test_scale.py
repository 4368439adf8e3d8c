"""python -m fastlic.bench.scale: rates."""

from __future__ import annotations

import pytest

from fastlic.bench import scale


def test_the_rate_of_a_core_is_printed(capsys):
    assert scale.main(["--core", "--megapixels", "0.05", "--runs", "1"]) == 0
    out = capsys.readouterr().out
    assert "images/s per core" in out and "0.05 MP" in out


@pytest.mark.slow
@pytest.mark.parametrize("back", [False, True])
def test_ray_is_timed_beside_the_commands_and_all_write_every_photo(back, capsys):
    pytest.importorskip("ray.data")
    pytest.importorskip("webdataset")
    assert scale.main(["--photos", "12", "--runs", "1", *["--back"] * back]) == 0
    lines = capsys.readouterr().out.splitlines()[-5:]
    names = [*(scale.BACK if back else scale.WAYS), scale.FIRST, scale.LATER, scale.STARTED]
    assert all(line.startswith(name) for line, name in zip(lines, names, strict=True))
    rates = [float(line.split()[-1].removesuffix("x")) for line in lines]
    assert rates[0] == 1 and min(rates) > 0 and rates[4] < rates[2]
