"""Fuzzes whole files: ``python fuzz/files/run.py TARGET [--seconds N] [--runs N] [--seed N] [--found FOLDER]``.

TARGET is one of targets.py, or ``all`` for each in turn. With ``--atheris``, where that is installed, libFuzzer chooses
by coverage of the Python code what to mutate on; without, inputs that are refused in new words are mutated on, and the
same seed gives the same inputs. Either way the mutators are those of mutate.py. ``--replay FILE ...`` runs inputs that
were kept. What is found goes to FOLDER, one input for each kind of finding.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

MOST_INPUTS = 300  # that are mutated on
MOST_ADDRESSES = 3 << 30  # bytes, beyond what the libraries reserve


def kind_of(error: BaseException) -> str:
    """Findings of one kind end alike: the error's class, and where in fastlic it was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/fastlic/" in f.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
    return f"{type(error).__name__} at {where}"


class Findings:
    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.kinds: dict[str, str] = {}

    def add(self, name: str, data: bytes, error: BaseException) -> None:
        kind = f"{name}: {kind_of(error)}"
        if kind in self.kinds:
            return
        self.kinds[kind] = hashlib.sha1(data).hexdigest()[:16]
        print(f"FOUND {kind}: {' '.join(str(error).split())[:200]}", flush=True)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"crash-{name}-{self.kinds[kind]}").write_bytes(data)


def fuzz(name: str, seconds: float, runs: int, seed: int, findings: Findings) -> int:
    """Executions of one target."""
    from targets import TARGETS

    target = TARGETS[name]
    draw = random.Random(f"{name} {seed}")
    seeds = target.seeds()
    pool = list(seeds)
    seen = set()
    done = 0
    for data in pool:
        seen.add(target.execute(data))
    if seen != {"accepted"}:
        raise AssertionError(f"seeds of {name} are refused: {seen}")
    start = time.monotonic()
    while done < runs and time.monotonic() - start < seconds:
        # Half of the time from a seed: most of what is kept is refused early.
        data = target.mutate(draw.choice(draw.choice((seeds, pool))), draw)
        while draw.randrange(4) == 0:
            data = target.mutate(data, draw)
        done += 1
        try:
            verdict = target.execute(data)
        except Exception as error:
            findings.add(name, data, error)
            continue
        if verdict not in seen and len(pool) < MOST_INPUTS:
            seen.add(verdict)
            pool.append(data)
    return done


def with_atheris(name: str, options: argparse.Namespace, findings: Findings) -> None:
    import atheris

    with atheris.instrument_imports(include=["fastlic"]):
        import targets
    target = targets.TARGETS[name]
    corpus = (options.found or Path(".")) / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for data in target.seeds():
        (corpus / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)

    def one(data: bytes) -> None:
        try:
            target.execute(data)
        except Exception as error:
            findings.add(name, data, error)

    def mutated(data: bytes, largest: int, seed: int) -> bytes:
        return target.mutate(data, random.Random(seed))[:largest]

    limits = [f"-max_total_time={int(options.seconds)}", f"-seed={options.seed}", "-print_final_stats=1"]
    if options.runs < sys.maxsize:
        limits.append(f"-runs={options.runs}")
    atheris.Setup([sys.argv[0], *limits, "-max_len=2000000", str(corpus)], one, custom_mutator=mutated)
    atheris.Fuzz()


def limit_memory() -> None:
    """What asks for gigabytes gets an error, which is a finding, and not this machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_ADDRESSES, resource.RLIM_INFINITY))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, default=sys.maxsize, help="of each target")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--found", type=Path, default=None, help="folder for inputs that are findings")
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument("--replay", type=Path, nargs="+", default=[], help="inputs to run in place of fuzzing")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1, 1 << 31)
    return options


def main() -> int:
    options = arguments()
    findings = Findings(options.found)
    if options.atheris:
        with_atheris(options.target, options, findings)
        return int(bool(findings.kinds))
    import targets

    targets.torch.set_num_threads(1)
    limit_memory()
    if options.replay:
        for path in options.replay:
            print(f"{path.name}: {targets.TARGETS[options.target].execute(path.read_bytes())}")
        return 0
    names: list[Any] = list(targets.TARGETS) if options.target == "all" else [options.target]
    print(f"seed {options.seed}", flush=True)
    total = 0
    for name in names:
        try:
            count = fuzz(name, options.seconds / len(names), options.runs, options.seed, findings)
        except ImportError as error:
            print(f"{name}: skipped, {error}")
            continue
        print(f"{name}: {count} executions", flush=True)
        total += count
    print(f"stat::number_of_executed_units: {total}")
    return int(bool(findings.kinds))


if __name__ == "__main__":
    sys.exit(main())
