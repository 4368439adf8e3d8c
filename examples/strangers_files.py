"""How a service decodes files of people whom it does not know: a limit, and an answer to each error.

    python examples/strangers_files.py FILE ...

Without a file the script makes some: a good one, a damaged one, one that is too large, one of foreign bytes.
"""

import argparse
from pathlib import Path

import numpy as np

import fastlic
from fastlic import light
from fastlic.errors import CorruptStreamError, ModelMismatchError, OutOfMemoryError, PixelLimitError

MAX_PIXELS = 500_000  # as few as the service needs
MAX_BYTES = 2_000_000


def answer(data: bytes) -> tuple[int, str]:
    """An HTTP status, and what to say."""
    if len(data) > MAX_BYTES:
        return 413, f"more than {MAX_BYTES} bytes"
    try:
        head = fastlic.peek(data)  # nothing is decoded yet
        pixels = light.decompress(data, max_pixels=MAX_PIXELS, threads=1)
    except PixelLimitError:
        return 413, f"{head.height} x {head.width} pixels are more than {MAX_PIXELS}"
    except CorruptStreamError as error:
        return 400, f"damaged, or no .flic file: {error}"
    except ModelMismatchError as error:
        return 422, f"made with weights that are not here: {error}"
    except OutOfMemoryError:
        return 503, "too busy"
    return 200, f"{pixels.shape[0]} x {pixels.shape[1]} pixels, {head.model}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()

    files = {path.name: path.read_bytes() for path in options.files}
    if not files:
        good = light.compress(np.full((48, 64, 3), 120, np.uint8))
        large = light.compress(np.full((600, 900, 3), 120, np.uint8), "mcquic")
        files = {"good": good, "damaged": good[:-1], "large": large, "foreign": b"<html>404</html>"}
    for name, data in files.items():
        print(name, *answer(data))
