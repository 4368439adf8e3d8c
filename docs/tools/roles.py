"""Docstrings for the site: Sphinx's roles, ``:meth:`Codec.compress```, become plain code; of ``a, b: text`` among
arguments each name gets an entry of its own, which is what griffe looks up in the signature."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")
SECTION = re.compile(r"^(Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
SHARED = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)


def _apart(section: re.Match[str]) -> str:
    def entries(found: re.Match[str]) -> str:
        return "\n".join(f"{found[1]}{name}: {found[3]}" for name in found[2].split(", "))

    return f"{section[1]}:\n{SHARED.sub(entries, section[2])}"


class Roles(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = SECTION.sub(_apart, ROLE.sub(r"`\1`", obj.docstring.value))
