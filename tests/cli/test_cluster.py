"""A simulation of machines that loses no shard."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from fastlic.inspect.cluster import Cluster, simulate

SMALL = Cluster(images=20_000, shard=100, machines=5, cores=4, life=0.2, gap=0.05)


@pytest.mark.parametrize("scheduler", ["queue", "array"])
@pytest.mark.parametrize("seed", range(5))
def test_every_simulated_shard_ends_once_whatever_machines_do(scheduler, seed):
    result = simulate(replace(SMALL, scheduler=scheduler, seed=seed))
    assert result.ends == result.shards == 200
    assert result.again > 0 and 0 < result.lost < 1
    least = SMALL.images / (SMALL.rate * 1.3 * SMALL.machines * SMALL.cores) / 3600
    assert result.hours > least
    assert result == simulate(replace(SMALL, scheduler=scheduler, seed=seed))


@pytest.mark.parametrize("figure", [one.name for one in fields(Cluster)])
def test_every_figure_of_a_cluster_counts(figure):
    tight = replace(SMALL, store=0.025)  # so that what is read takes time
    other = {"scheduler": "array", "seed": 1}.get(figure) or type(getattr(tight, figure))(getattr(tight, figure) / 2)
    assert simulate(replace(tight, **{figure: other})) != simulate(tight)


def test_without_spread_and_failures_the_time_is_the_work_over_the_cores():
    plain = replace(SMALL, spread=0.0, life=0.0)
    result = simulate(plain)
    assert result.hours == pytest.approx(20_000 / (2.0 * 20) / 3600, rel=0.05)
    assert (result.again, result.lost) == (0, 0)


def test_a_store_that_gives_half_takes_twice_the_time():
    plain = replace(SMALL, spread=0.0, life=0.0)
    half = replace(plain, store=20 * 2.0 * 0.7 / 1e3 / 2)
    assert simulate(half).hours == pytest.approx(2 * simulate(plain).hours, rel=0.05)
