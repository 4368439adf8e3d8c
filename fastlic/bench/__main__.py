"""``python -m fastlic.bench [SUITE ...]``: every benchmark of the library, beside its peers and limits."""

from __future__ import annotations

import argparse
import fnmatch
import math
import sys
import time
from pathlib import Path

from fastlic.bench import report
from fastlic.bench.runner import Measurement, glob, measure, suites


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = report.parser("fastlic.bench", __doc__)
    parser.add_argument("suites", nargs="*", help="suites to run (default: all)")
    parser.add_argument("--list", action="store_true", help="name suites and cases, measure nothing")
    parser.add_argument("--filter", default="*", metavar="GLOB", help="cases whose name matches, e.g. '*decode*'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line per case")
    parser.add_argument("--seconds", type=float, default=1.0, help="time per case and per peer (default: 1)")
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS", help="begin no case after so long; print what there is"
    )
    parser.add_argument("--gpu", action="store_true", help="everything that only a GPU can tell (fastlic.bench.gpu)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    known = suites()
    unknown = sorted(set(options.suites) - set(known))
    if unknown:
        print(f"no suite named {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if options.gpu:
        from fastlic.bench import gpu

        return gpu.main([])

    def wanted(name: str) -> bool:
        return fnmatch.fnmatch(name, glob(options.filter))

    def show(name: str) -> bool:
        """Prints what would be let through, and lets nothing through."""
        if wanted(name):
            print(f"  {name}")
        return False

    if options.list:
        for name in options.suites or known:
            print(name)
            for _ in known[name](show):
                pass
        return 0

    results: list[Measurement] = []
    end = time.monotonic() + (options.limit or math.inf)
    for case in (case for name in options.suites or known for case in known[name](wanted)):
        if time.monotonic() > end:
            report.progress(f"the limit of {options.limit:g} s is over: what follows is left out\n")
            break
        report.progress(f"{case.name} ...")
        results.append(measure(case, options.seconds))
        if options.json:  # at once: a case that hangs costs only itself
            report.write_json(results[-1], options.json)
    report.progress()
    if not results:
        print("no case matches", file=sys.stderr)
        return 2
    print(report.about())
    print(report.table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
