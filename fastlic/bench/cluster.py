"""A billion images on paper: a simulation of machines, shards and who does them. It measures nothing.

    python -m fastlic.bench.cluster                              the table of docs/scale.md
    python -m fastlic.bench.cluster --rate 1.2 --machines 200    with your own figures

Each core works on one shard at a time. Machines differ in speed, are taken away and come back (spot machines), and read
from a store of limited bandwidth; they are paid for until the last shard ends. Two schedulers: "queue" gives the next
shard to whoever is free, as Ray does; "array" has each core do every n-th shard, as a job array does by `fastlic batch
--shard i/n`. A shard that its machine did not end is done again from its start, by the queue elsewhere, by the array
when the machine is back. Nothing is written but whole shards, so nothing is lost but time.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import deque
from dataclasses import dataclass, fields, replace

from fastlic.bench import report


@dataclass(frozen=True)
class Cluster:
    """What is reckoned with. All of it is input; ``rate`` is what `python -m fastlic.bench.scale --core` prints."""

    images: int = 1_000_000_000
    rate: float = 2.0  # images per second and core
    machines: int = 100
    cores: int = 64  # of a machine
    shard: int = 2_000  # images
    megabytes_in: float = 0.7  # of an image file
    megabytes_out: float = 0.08  # of a stream
    store: float = 20.0  # GB/s that the store gives to all machines together
    spread: float = 0.1  # standard deviation of the logarithm of a machine's speed
    life: float = 24.0  # hours until a machine is taken away, on average; 0: never
    gap: float = 0.2  # hours until another takes its place
    price: float = 0.02  # of a core hour, in whatever money
    scheduler: str = "queue"
    seed: int = 0


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


def simulate(cluster: Cluster) -> Result:
    """Event by event, of shards that start and end and machines that go; the same figures give the same result."""
    dice = random.Random(cluster.seed)
    shards = -(-cluster.images // cluster.shard)
    workers = cluster.machines * cluster.cores
    # The store serves all cores alike: they wait for it in proportion, where they would ask for more than there is.
    asked = workers * cluster.rate * cluster.megabytes_in / 1e3
    rate = cluster.rate * min(1.0, cluster.store / asked)
    speeds = [dice.lognormvariate(0, cluster.spread) for _ in range(cluster.machines)]
    queue = deque(range(shards)) if cluster.scheduler == "queue" else deque()
    own = [deque() if cluster.scheduler == "queue" else deque(range(w, shards, workers)) for w in range(workers)]
    doing: list[tuple[int, float] | None] = [None] * workers  # shard, begun at
    turns = [0] * workers  # how often the worker began or lost something: tells old events from those that count
    events: list[tuple[float, int, int, int]] = []  # seconds, kind (0 end, 1 gone, 2 back), worker or machine, turn
    alive = [True] * cluster.machines
    idle: set[int] = set()

    def begin(worker: int, now: float) -> None:
        source = queue if cluster.scheduler == "queue" else own[worker]
        if not source or not alive[worker // cluster.cores]:
            idle.add(worker)
            return
        idle.discard(worker)
        doing[worker] = (source.popleft(), now)
        turns[worker] += 1
        images = min(cluster.shard, cluster.images)
        seconds = images / (rate * speeds[worker // cluster.cores]) * dice.uniform(0.95, 1.05)
        heapq.heappush(events, (now + seconds, 0, worker, turns[worker]))

    for worker in range(workers):
        begin(worker, 0.0)
    if cluster.life:
        for machine in range(cluster.machines):
            heapq.heappush(events, (3600 * dice.expovariate(1 / cluster.life), 1, machine, 0))
    ends = again = 0
    wasted = away = now = nearly = 0.0
    while ends < shards:
        now, kind, index, turn = heapq.heappop(events)
        if kind == 0:
            if turn != turns[index] or doing[index] is None:
                continue
            doing[index] = None
            ends += 1
            if ends == shards - shards // 100:
                nearly = now
            begin(index, now)
        elif kind == 1:
            alive[index] = False
            away += 3600 * cluster.gap * cluster.cores
            heapq.heappush(events, (now + 3600 * cluster.gap, 2, index, 0))
            for worker in range(index * cluster.cores, (index + 1) * cluster.cores):
                if (work := doing[worker]) is not None:
                    (queue if cluster.scheduler == "queue" else own[worker]).appendleft(work[0])
                    again, wasted, doing[worker] = again + 1, wasted + now - work[1], None
                    turns[worker] += 1
                idle.discard(worker)
            for worker in sorted(idle)[: len(queue)]:
                begin(worker, now)
        else:
            alive[index] = True
            heapq.heappush(events, (now + 3600 * dice.expovariate(1 / cluster.life), 1, index, 0))
            for worker in range(index * cluster.cores, (index + 1) * cluster.cores):
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


def cases(cluster: Cluster) -> list[tuple[str, Cluster]]:
    """What docs/scale.md compares."""
    return [
        ("queue", cluster),
        ("queue, machines never go", replace(cluster, life=0.0)),
        ("array", replace(cluster, scheduler="array")),
        ("array, machines never go", replace(cluster, scheduler="array", life=0.0)),
        ("queue, shards of 20,000", replace(cluster, shard=20_000)),
        ("queue, shards of 200,000", replace(cluster, shard=200_000)),
        ("queue, machines go each 4 h", replace(cluster, life=4.0)),
        ("queue, a store of 2 GB/s", replace(cluster, store=2.0)),
        ("queue, 1000 machines", replace(cluster, machines=1000)),
    ]


HEAD = [
    "case",
    "hours",
    "core hours",
    "cost",
    "shards begun in vain",
    "time lost",
    "in the last 1 %",
    "shards/s",
    "GB/s",
]


def row(name: str, result: Result) -> list[str]:
    shares = f"{100 * result.lost:.2f} %", f"{100 * result.tail:.1f} %"
    return [
        *(name, f"{result.hours:.1f}", f"{result.core_hours:,.0f}", f"{result.cost:,.0f}", f"{result.again:,}"),
        *(*shares, f"{result.tasks:.1f}", f"{result.read:.1f}"),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.cluster", __doc__)
    for one in fields(Cluster):
        if one.name != "scheduler":
            kind = type(one.default)
            parser.add_argument(
                f"--{one.name.replace('_', '-')}", type=kind, default=one.default, help=f"{one.default}"
            )
    cluster = Cluster(**vars(parser.parse_args(arguments)))
    rows = []
    for name, case in cases(cluster):
        report.progress(name)
        rows.append(row(name, simulate(case)))
    report.progress()
    print(report.markdown(HEAD, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
