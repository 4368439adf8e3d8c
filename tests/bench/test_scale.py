"""python -m fastlic.bench.scale and .cluster: rates, and a simulation that loses no shard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastlic.bench import cluster, scale

SMALL = cluster.Cluster(images=20_000, shard=100, machines=5, cores=4, life=0.2, gap=0.05)


@pytest.mark.parametrize("scheduler", ["queue", "array"])
@pytest.mark.parametrize("seed", range(5))
def test_every_simulated_shard_ends_once_whatever_machines_do(scheduler, seed):
    result = cluster.simulate(replace(SMALL, scheduler=scheduler, seed=seed))
    assert result.ends == result.shards == 200
    assert result.again > 0 and 0 < result.lost < 1
    least = SMALL.images / (SMALL.rate * 1.3 * SMALL.machines * SMALL.cores) / 3600
    assert result.hours > least
    assert result == cluster.simulate(replace(SMALL, scheduler=scheduler, seed=seed))


def test_without_spread_and_failures_the_time_is_the_work_over_the_cores():
    plain = replace(SMALL, spread=0.0, life=0.0)
    result = cluster.simulate(plain)
    assert result.hours == pytest.approx(20_000 / (2.0 * 20) / 3600, rel=0.05)
    assert (result.again, result.lost) == (0, 0)


def test_a_store_that_gives_half_takes_twice_the_time():
    plain = replace(SMALL, spread=0.0, life=0.0)
    half = replace(plain, store=20 * 2.0 * 0.7 / 1e3 / 2)
    assert cluster.simulate(half).hours == pytest.approx(2 * cluster.simulate(plain).hours, rel=0.05)


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
    names = [*(scale.BACK if back else scale.WAYS), scale.STARTED]
    assert all(line.startswith(name) for line, name in zip(lines, names, strict=True))
    rates = [float(line.split()[-1].removesuffix("x")) for line in lines]
    assert rates[0] == 1 and min(rates) > 0 and rates[4] < rates[2]
