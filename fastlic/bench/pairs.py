"""``python -m fastlic.bench.pairs BASE``: the rows of this checkout beside those of another, in CPU time.

Both are built in place. Their processes take turns, so that whatever else the machine does hits both alike; each has
one thread, no GPU and no peers. The ratio is the base's time over this checkout's, the median of all rounds: above 1
this checkout is the faster one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import fastlic
from fastlic.bench import report
from fastlic.bench.runner import glob

# What runs in a checkout, with its own suites and runner. Names and medians are all that has to be alike.
_RUN = """
import dataclasses, fnmatch, json, pathlib, sys
import fastlic, torch
from fastlic.bench.runner import measure, suites
assert pathlib.Path.cwd() in pathlib.Path(fastlic.__file__).resolve().parents, fastlic.__file__
torch.set_num_threads(1)
for cases in suites().values():
    for case in cases(lambda name: fnmatch.fnmatch(name, sys.argv[1])):
        alone = dataclasses.replace(case, peer=None, clock="thread")
        print(json.dumps([case.name, measure(alone, float(sys.argv[2])).seconds["median"]]))
"""


def times(checkout: Path, pattern: str, seconds: float) -> dict[str, float]:
    """Seconds of each row of a checkout that matches, in a process of its own."""
    command = ["env", "OMP_NUM_THREADS=1", "CUDA_VISIBLE_DEVICES=", sys.executable, "-W", "ignore", "-c", _RUN]
    command += [pattern, str(seconds)]
    done = subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.pairs", __doc__)
    parser.add_argument("base", type=Path, metavar="BASE", help="the other checkout")
    parser.add_argument("--filter", default="*", metavar="ROW", help="rows whose name matches, e.g. '*decode*'")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each checkout (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="time per row and process (default: 0.5)")
    options = parser.parse_args(arguments)
    checkouts = {"base": options.base.resolve(), "here": Path(fastlic.__file__).resolve().parents[1]}
    found: dict[str, list[tuple[float, float]]] = {}
    for turn in range(options.rounds):
        order = list(checkouts)[:: -1 if turn % 2 else 1]
        took = {side: times(checkouts[side], glob(options.filter), options.seconds) for side in order}
        for name in took["here"].keys() & took["base"]:
            found.setdefault(name, []).append((took["base"][name], took["here"][name]))
    rows: list[tuple[str, ...]] = [("row", "base ms", "here ms", "ratio", "of all rounds")]
    for name, pairs in sorted(found.items()):
        ratios = sorted(base / here for base, here in pairs)
        cells = (f"{1e3 * statistics.median(side):.3f}" for side in zip(*pairs, strict=True))
        rows.append((name, *cells, f"{statistics.median(ratios):.3f}x", f"{ratios[0]:.3f} to {ratios[-1]:.3f}"))
    print(report.about(), *report.columns(rows), sep="\n")
    return 0 if found else 2


if __name__ == "__main__":
    sys.exit(main())
