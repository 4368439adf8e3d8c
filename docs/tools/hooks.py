"""What MkDocs does beside its own: links of pages to files outside of docs/ lead to pages made of those files.

On a forge ``../csrc/libflic/flic.h`` opens the file. The site has a page ``source/csrc/libflic/flic.h`` in its place,
made here; Markdown files become pages as they are, and their own links are mended in the same way.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(#[^)]*)?(?=\))")
KINDS = {".c": "c", ".h": "c", ".hpp": "cpp", ".cpp": "cpp", ".py": "python", ".toml": "toml", ".json": "json"}
FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def _file_of(page: str) -> str:
    """The file of the repository that a page of the site is made of."""
    if page.startswith("source/"):
        return page.removeprefix("source/").removesuffix(".page.md")
    return f"docs/{page}"


def _page_of(file: str) -> str:
    """The page, or other file of the site, that shows a file of the repository."""
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    return f"source/{file}" if file.endswith(".md") else f"source/{file}.page.md"


def _targets(markdown: str, file: str) -> set[str]:
    """Files of the repository that a file's links name, outside of docs/."""
    found = (posixpath.normpath(posixpath.join(posixpath.dirname(file), link[1])) for link in LINK.finditer(markdown))
    return {path for path in found if not path.startswith(("docs/", "http")) and (ROOT / path).is_file()}


def on_files(files: Files, config: Any) -> Files:
    pages = [Path(file.src_uri) for file in files if file.src_uri.endswith(".md")]
    waiting = {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    for page in pages:
        waiting |= _targets((ROOT / "docs" / page).read_text(), f"docs/{page.as_posix()}")
    done: set[str] = set()
    while waiting:
        path = waiting.pop()
        done.add(path)
        text = (ROOT / path).read_text()
        if path.endswith(".md"):
            waiting |= _targets(text, path) - done
        else:
            text = f"# {path}\n\n```{KINDS.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n```\n"
        made = File.generated(config, _page_of(path), content=text)
        made.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(made)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    here = _file_of(page.file.src_uri)

    def mended(link: re.Match[str]) -> str:
        if "://" in link[1]:
            return link[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(here), link[1]))
        if not (ROOT / file).is_file():
            return link[0]  # which MkDocs then reports
        return posixpath.relpath(_page_of(file), posixpath.dirname(page.file.src_uri)) + (link[2] or "")

    # Code is left alone: what looks like a link there is none.
    pieces, at = [], 0
    for fence in FENCE.finditer(markdown):
        pieces += [LINK.sub(mended, markdown[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*pieces, LINK.sub(mended, markdown[at:])])
