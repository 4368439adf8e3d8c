"""Peak memory of one call, as the operating system sees it: what a process needs beyond what it held before.

``python -m fastlic.bench.memory`` prints what the shipped models take: for each size and direction a process of its own
that compresses squares of the demonstration photo, side by side up to about that size, or decompresses the result to
uint8, quality 4. MB a megapixel is what the peak grew by over a process that has done the same with a small image; the
whole process is at its highest in the other column.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastlic.bench import report
from fastlic.codec.cards import cards

_RUN = """
import resource, sys
from pathlib import Path
import torch, fastlic
from fastlic.codec.image_files import read_image
from fastlic.codec.calibration import PHOTO
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
way, name, side, path = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
codec, photo = fastlic.load(name), read_image(PHOTO).pixels[:, :256, :256]
codec.decompress(codec.compress(photo, 4), dtype=torch.uint8)
if way == "compress":
    image = photo.repeat(1, side // 256, side // 256)  # without a copy, which would be counted as held before
    before = peak()
    path.write_bytes(codec.compress(image, 4))
else:
    data, before = path.read_bytes(), peak()
    codec.decompress(data, dtype=torch.uint8)
print(peak() - before, peak())
"""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _kilobytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def peak(run: Callable[[], Any]) -> int | None:
    """Bytes by which ``run`` raises resident memory at its highest; None where the system does not tell (not Linux).

    ``run`` is called once before. Freed memory is handed back first, so that it cannot hide what is needed again.
    """
    run()
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # resets the high-water mark
        before = _kilobytes("VmRSS:")
        run()
        return max(_kilobytes("VmHWM:") - before, 0) << 10
    except (OSError, AttributeError, StopIteration):
        return None


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.memory", __doc__)
    parser.add_argument("--models", nargs="+", default=sorted(cards()), metavar="NAME")
    parser.add_argument("--megapixels", nargs="+", type=float, default=[1, 4, 8], metavar="N")
    options = parser.parse_args(arguments)
    print(f"{'model':<10}{'megapixels':>11}   {'compress':<26}{'decompress':<26}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            for megapixels in options.megapixels:
                side = max(round((megapixels * 1e6) ** 0.5 / 256), 1) * 256
                cells = []
                for way in ("compress", "decompress"):
                    command = [sys.executable, "-c", _RUN, way, name, str(side), str(Path(folder) / "image.flic")]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    grown, whole = map(int, done.stdout.split())
                    cells.append(f"{grown / side**2:4.0f} MB a MP, {whole / 1e9:5.2f} GB")
                print(f"{name:<10}{megapixels:>11g}   {cells[0]:<26}{cells[1]:<26}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
