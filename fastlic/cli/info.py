"""``fastlic info``: what is in a file, or what is in this installation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fastlic.cli import files, options
from fastlic.cli.words import say


@click.command()
@click.argument("file", required=False, type=options.FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(file: Path | None, as_json: bool) -> None:
    """Describe FILE.flic or FILE.mcq; without a file, list versions, backends and weights of this installation.

    A damaged file is described as far as its header can be trusted, and exits with 1. A dash is standard input.
    """
    from fastlic.codec import container
    from fastlic.errors import CorruptStreamError

    damage = None
    if file is None:
        from fastlic.api import info as installation

        facts = installation()
    else:
        with files.about(file):
            data = files.contents(file)
            facts = _describe_mcq(data) if file.suffix.lower() == ".mcq" else _describe(data)
        if file.suffix.lower() != ".mcq":
            try:
                container.attachments(data)
                container.unpack(data)
            except CorruptStreamError as error:
                damage = str(error)
                facts["damage"] = damage
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        for line in _lines(facts):
            say(line)
    if damage:
        raise SystemExit(1)


def _describe(data: bytes) -> dict[str, Any]:
    from fastlic.codec import container
    from fastlic.codec.cards import shipped_reading, shipped_with

    head = container.look(data)
    weights = shipped_with(head.fingerprint, head.version)
    if weights is None and head.version > 1 and (reader := shipped_reading(head.fingerprint)):
        weights = f"not shipped, but {reader} reads its streams"
    return {
        "format version": head.version,
        "model": head.model,
        "fingerprint": head.fingerprint,
        "weights": weights or "not shipped with this fastlic",
        "quality": "fixed" if head.quality is None else head.quality,
        "width": head.width,
        "height": head.height,
        "channels": ("grey", "grey and alpha", "RGB", "RGB and alpha")[head.channels - 1],
        "bytes": len(data),
        "bpp": round(8 * len(data) / (head.width * head.height), 4),
        "framing bytes": head.framing_bytes,
        **({"attachment bytes": head.attachment_bytes} if head.attachment_bytes else {}),
        "section bytes": list(head.section_bytes),
    }


def _describe_mcq(data: bytes) -> dict[str, Any]:
    from fastlic.codec import mcq_file

    file = mcq_file.parse(data)
    return {
        "format": f"McQuic {file.version}",
        "weights, as its writer called them": file.qp if file.qp.isprintable() else repr(file.qp),
        "codebooks per level": file.groups,
        "words": list(file.words),
        "width": file.width,
        "height": file.height,
        "bytes": len(data),
        "bpp": round(8 * len(data) / (file.width * file.height), 4),
        "section bytes": [len(part) for part in file.contents],
    }


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    width = max((len(key) for key in facts), default=0) + 2
    lines = []
    for key, value in facts.items():
        label = key.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{indent}{label}", *_lines(value, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            lines.append(f"{indent}{label:<{width}}{text}")
    return lines
