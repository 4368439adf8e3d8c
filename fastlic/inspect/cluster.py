"""Machines, shards and who does them, on paper: what a billion images cost. Nothing is run (docs/scale.md).

Each core works on one shard at a time. Machines differ in speed, are taken away and come back (spot machines), and read
from a store of limited bandwidth; they are paid for until the last shard ends. Two schedulers: "queue" gives the next
shard to whoever is free, as Ray does; "array" has each core do every n-th shard, as a job array does by `fastlic batch
--shard i/n`. A shard that its machine did not end is done again from its start, by the queue elsewhere, by the array
when the machine is back. Nothing is written but whole shards, so nothing is lost but time.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Cluster:
    """What is reckoned with. All of it is input; ``rate`` is what `python -m fastlic.bench.scale --core` prints."""

    images: int = 1_000_000_000
    rate: float = 2.0  # images per second and core
    machines: int = 100
    cores: int = 64  # of a machine
    shard: int = 2_000  # images
    megabytes_in: float = 0.7  # of an image file
    store: float = 20.0  # GB/s that the store gives to all machines together
    spread: float = 0.1  # standard deviation of the logarithm of a machine's speed
    life: float = 24.0  # hours until a machine is taken away, on average; 0: never
    gap: float = 0.2  # hours until another takes its place
    price: float = 0.02  # of a core hour, in whatever money
    scheduler: str = "queue"
    seed: int = 0


# What docs/scale.md compares: how each differs from the figures given.
CASES: dict[str, dict[str, Any]] = {
    "queue": {},
    "queue, machines never go": {"life": 0.0},
    "array": {"scheduler": "array"},
    "array, machines never go": {"scheduler": "array", "life": 0.0},
    "queue, shards of 20,000": {"shard": 20_000},
    "queue, shards of 200,000": {"shard": 200_000},
    "queue, machines go each 4 h": {"life": 4.0},
    "queue, a store of 2 GB/s": {"store": 2.0},
    "queue, 1000 machines": {"machines": 1000},
}


@dataclass(frozen=True)
class Result:
    hours: float  # until the last shard
    core_hours: float  # paid for
    cost: float
    shards: int
    ends: int  # shards that were done; equal to ``shards``
    again: int  # shards begun in vain
    lost: float  # share of paid time that was for them
    tail: float  # share of the hours in which the last 1 % was done
    tasks: float  # shards per second that the scheduler hands out
    read: float  # GB/s from the store


class _Event(NamedTuple):
    """In the order of time: a shard ends, or a machine goes or is back."""

    seconds: float
    kind: int  # 0 a shard ends, 1 a machine goes, 2 it is back
    who: int  # the worker, or the machine
    shard: int = 0
    began: float = 0.0


def simulate(cluster: Cluster) -> Result:
    """Event by event; the same figures give the same result."""
    dice = random.Random(cluster.seed)
    shards = -(-cluster.images // cluster.shard)
    workers = cluster.machines * cluster.cores
    # The store serves all cores alike: they wait for it in proportion, where they would ask for more than there is.
    asked = workers * cluster.rate * cluster.megabytes_in / 1e3
    rate = cluster.rate * min(1.0, cluster.store / asked)
    speeds = [dice.lognormvariate(0, cluster.spread) for _ in range(cluster.machines)]
    if cluster.scheduler == "queue":
        sources = [deque(range(shards))] * workers  # one for all
    else:
        sources = [deque(range(worker, shards, workers)) for worker in range(workers)]
    doing: dict[int, _Event] = {}  # by worker: the end that counts
    events: list[_Event] = []
    alive = [True] * cluster.machines
    idle: set[int] = set()

    def begin(worker: int, now: float) -> None:
        machine = worker // cluster.cores
        if not sources[worker] or not alive[machine]:
            idle.add(worker)
            return
        idle.discard(worker)
        images = min(cluster.shard, cluster.images)
        seconds = images / (rate * speeds[machine]) * dice.uniform(0.95, 1.05)
        doing[worker] = _Event(now + seconds, 0, worker, sources[worker].popleft(), now)
        heapq.heappush(events, doing[worker])

    def goes(machine: int, now: float) -> None:
        heapq.heappush(events, _Event(now + 3600 * dice.expovariate(1 / cluster.life), 1, machine))

    for worker in range(workers):
        begin(worker, 0.0)
    if cluster.life:
        for machine in range(cluster.machines):
            goes(machine, 0.0)
    ends = again = 0
    wasted = away = now = nearly = 0.0
    while ends < shards:
        event = heapq.heappop(events)
        now, kind, who, *_ = event
        own = range(who * cluster.cores, (who + 1) * cluster.cores)  # workers, where a machine is told of
        if kind == 0:
            if doing.get(who) is not event:
                continue
            del doing[who]
            ends += 1
            if ends == shards - shards // 100:
                nearly = now
            begin(who, now)
        elif kind == 1:
            alive[who] = False
            away += 3600 * cluster.gap * cluster.cores
            heapq.heappush(events, _Event(now + 3600 * cluster.gap, 2, who))
            for worker in own:
                if (lost := doing.pop(worker, None)) is not None:
                    sources[worker].appendleft(lost.shard)
                    again, wasted = again + 1, wasted + now - lost.began
                idle.discard(worker)
            for worker in sorted(idle)[: len(sources[own[0]])]:
                begin(worker, now)
        else:
            alive[who] = True
            goes(who, now)
            for worker in own:
                begin(worker, now)
    paid = max(now * workers - away, 1e-9)
    return Result(
        hours=now / 3600,
        core_hours=paid / 3600,
        cost=paid / 3600 * cluster.price,
        shards=shards,
        ends=ends,
        again=again,
        lost=wasted / paid,
        tail=(now - nearly) / now,
        tasks=(shards + again) / now,
        read=cluster.images * cluster.megabytes_in / 1e3 / now,
    )
