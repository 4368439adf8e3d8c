"""Runs fuzz targets for a given time and keeps the books: ``python fuzz/campaign.py BUILT FOLDER [TARGET ...]``.

    python fuzz/build.py BUILT
    python fuzz/campaign.py BUILT FOLDER --seconds 3600 --log fuzz.jsonl

BUILT has the libFuzzer programs of build.py. FOLDER keeps a corpus per target, which grows from run to run and begins
with the seeds of this tree, and what was found. Targets take turns of ``--turn`` seconds under ``nice -n 19``, one at a
time. ``files:NAME`` is a target of files/targets.py, ``files:all`` each of those. Every turn appends a line of JSON to
the log; ``--sum`` adds the lines up by target.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

FUZZ = Path(__file__).resolve().parent
NATIVE = sorted(path.stem for path in (FUZZ / "targets").glob("*.cpp"))
FINDINGS = ("crash-", "leak-", "timeout-", "oom-")


def unpack_seeds(target: str, corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    archive = FUZZ / "corpus" / f"{target}.zip"
    if archive.exists():
        with zipfile.ZipFile(archive) as seeds:
            seeds.extractall(corpus)


def native_command(built: Path, target: str, seconds: int, seed: int, corpus: Path, found: Path) -> list[str]:
    limits = [f"-seed={seed}", f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=3000", "-max_len=4096"]
    words = [f"-dict={FUZZ / 'dictionaries' / 'numbers.dict'}"]
    return [str(built / target), *limits, *words, "-print_final_stats=1", f"-artifact_prefix={found}/", str(corpus)]


def python_command(target: str, seconds: int, seed: int, found: Path, atheris: bool) -> list[str]:
    name = target.removeprefix("files:")
    run = [sys.executable, str(FUZZ / "files" / "run.py"), name, f"--seconds={seconds}", f"--seed={seed}"]
    return [*run, f"--found={found}", *(["--atheris"] if atheris else [])]


def turn(built: Path, folder: Path, target: str, seconds: int, seed: int, atheris: bool) -> dict[str, Any]:
    """One run of one target: what the log keeps of it."""
    plain = target.replace(":", "_")
    found = folder / "found" / plain
    found.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in found.iterdir()}
    if target in NATIVE:
        corpus = folder / "corpus" / target
        unpack_seeds(target, corpus)
        command = native_command(built, target, seconds, seed, corpus, found)
    else:
        command = python_command(target, seconds, seed, found, atheris)
    start = time.time()
    result = subprocess.run(["nice", "-n", "19", *command], capture_output=True, text=True, errors="replace")
    output = result.stdout + result.stderr
    counts = re.findall(r"stat::number_of_executed_units:\s*(\d+)", output) or re.findall(r"^#(\d+)", output, re.M)
    new = sorted({path.name for path in found.iterdir()} - before)
    if result.returncode != 0:
        (found / f"output-{seed}.txt").write_text(output[-20000:])
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start)),
        "target": target,
        "seed": seed,
        "seconds": round(time.time() - start, 1),
        "executions": int(counts[-1]) if counts else 0,
        "status": result.returncode,
        "findings": [str(found / name) for name in new if name.startswith(FINDINGS)],
    }


def total(log: Path) -> str:
    """Executions, seconds and findings by target of all lines of a log."""
    executions: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    found: dict[str, list[str]] = defaultdict(list)
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        executions[entry["target"]] += entry["executions"]
        seconds[entry["target"]] += entry["seconds"]
        found[entry["target"]] += entry["findings"]
    rows = [
        f"{target:24} {count:>14,} {seconds[target]:>10,.0f} s {len(found[target]):>4} found"
        for target, count in sorted(executions.items())
    ]
    rows.append(f"{'all':24} {sum(executions.values()):>14,} {sum(seconds.values()):>10,.0f} s")
    rows += [f"  {name}" for names in found.values() for name in names]
    return "\n".join(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("built", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("targets", nargs="*", help="names of targets; default: all native ones")
    parser.add_argument("--seconds", type=int, default=600, help="of the whole run")
    parser.add_argument("--turn", type=int, default=60, help="seconds of one target's turn")
    parser.add_argument("--log", type=Path, default=None, help="where lines are appended; default: FOLDER/log.jsonl")
    parser.add_argument("--seed", type=int, default=None, help="of the first turn; default: a random one")
    parser.add_argument("--atheris", action="store_true", help="coverage of Python code guides targets of files/")
    parser.add_argument("--sum", action="store_true", help="only add up the log")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    log = options.log or options.folder / "log.jsonl"
    if not options.sum:
        options.folder.mkdir(parents=True, exist_ok=True)
        targets = options.targets or NATIVE
        seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1, 1 << 31)
        end = time.time() + options.seconds
        number = 0
        while (left := int(end - time.time())) > 0:
            target = targets[number % len(targets)]
            entry = turn(options.built, options.folder, target, min(options.turn, left), seed + number, options.atheris)
            with log.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            number += 1
            print(json.dumps(entry), flush=True)
    print(total(log))
    return int(any(json.loads(line)["findings"] for line in log.read_text().splitlines()))


if __name__ == "__main__":
    # libFuzzer's own children and Python targets use one core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
