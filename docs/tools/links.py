"""Asks each address that Markdown files link to, and fails if one does not answer: docs/tools/links.py PATH ..."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

ADDRESS = re.compile(r"\]\((https?://[^)\s#]+)")


def addresses(paths: list[Path]) -> dict[str, Path]:
    """Each address, and one file that has it."""
    files = [file for path in paths for file in (sorted(path.rglob("*.md")) if path.is_dir() else [path])]
    return {found[1]: file for file in files for found in ADDRESS.finditer(file.read_text())}


def problem(address: str) -> str | None:
    request = urllib.request.Request(address, headers={"User-Agent": "fastlic-links"})
    try:
        with urllib.request.urlopen(request, timeout=20):
            return None
    except (urllib.error.URLError, TimeoutError) as error:
        return str(error)


def main(paths: list[Path]) -> int:
    wrong = 0
    for address, file in addresses(paths).items():
        said = problem(address)
        print(f"{'ok' if said is None else said:30} {address} ({file})")
        wrong += said is not None
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main([Path(path) for path in sys.argv[1:]]))
