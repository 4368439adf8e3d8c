"""A billion images on paper: a simulation of machines, shards and who does them. It measures nothing.

    python -m fastlic.bench.cluster                              the table of docs/scale.md
    python -m fastlic.bench.cluster --rate 1.2 --machines 200    with your own figures

``fastlic.batch.simulation`` says what is reckoned with, and how.
"""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import Any

from fastlic.batch.simulation import Cluster, Result, simulate
from fastlic.bench import report

# What docs/scale.md compares: what differs from the figures given.
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
HEAD = ["case", "hours", "core hours", "cost", "shards begun in vain"]
HEAD += ["time lost", "in the last 1 %", "shards/s", "GB/s"]


def row(name: str, found: Result) -> list[str]:
    times = f"{found.hours:.1f}", f"{found.core_hours:,.0f}", f"{found.cost:,.0f}", f"{found.again:,}"
    shares = f"{100 * found.lost:.2f} %", f"{100 * found.tail:.1f} %"
    return [name, *times, *shares, f"{found.tasks:.1f}", f"{found.read:.1f}"]


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.cluster", __doc__)
    for one in fields(Cluster):
        if one.name != "scheduler":
            name = f"--{one.name.replace('_', '-')}"
            parser.add_argument(name, type=type(one.default), default=one.default, help=str(one.default))
    cluster = Cluster(**vars(parser.parse_args(arguments)))
    rows = []
    for name, different in CASES.items():
        report.progress(name)
        rows.append(row(name, simulate(replace(cluster, **different))))
    report.progress()
    print(report.markdown(HEAD, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
