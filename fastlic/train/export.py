"""From a training run to a codec file and its card: the end of ``fastlic train``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from fastlic.codec.codec import Codec
from fastlic.codec.families import BY_FAMILY
from fastlic.codec.families.gaussian import GaussianCoder
from fastlic.codec.images import as_batch
from fastlic.files import write_whole, written_whole
from fastlic.models import McQuic
from fastlic.models.mcquic.context import CodeContext
from fastlic.models.state_files import beside_of, part_of, read_weights
from fastlic.train import code_context, vq_words
from fastlic.train.config import RunConfig
from fastlic.train.objectives import build
from fastlic.train.weights import WORTH, load_checkpoint

_CALIBRATION_TILES = 24
_NEAR = 0.05  # of a kernel's own root mean square: by less do integers of 12 bits differ from it
_HEADER = 200_000  # bytes that names and shapes of a file's tensors take at most


def _float16(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float16 holds them, so that a shipped checkpoint and the codec made from it agree."""
    return {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}


def _model(stored: Mapping[str, Any]) -> Any:
    """A model of the checkpoint's run, weights not yet loaded."""
    return build(RunConfig.from_dict(stored["config"])).model


def write_checkpoint(checkpoint: Path, path: Path, most: int = 16_000_000, beside: Path | None = None) -> list[Path]:
    """Write the state dict of a run's checkpoint as float16 safetensors, McQuic's frequencies as float32.

    ``from_state_dict`` reads it.

    Args:
        checkpoint: ``best.pt`` of a run.
        path: the file to write; ``read_state`` takes it.
        most: bytes of a file. Weights that have more become ``NAME-1-of-2.safetensors`` and so on.
        beside: weights in the same folder, e.g. those that the run began with; what they have alike is left out.

    Returns:
        The files written.

    Raises:
        ValueError: ``beside`` lies in another folder, or what is left has more than ``most`` bytes.
    """
    stored = load_checkpoint(checkpoint)
    # Other buffers are constants that every new model has.
    with torch.device("meta"):
        names = [*dict(_model(stored).named_parameters()), WORTH]
    state = stored["model"]
    # Frequencies of rare words would become zero, and what a word costs follows from them.
    kept = {name: state[name] if "_freqEMA." in name else state[name].half() for name in names if name in state}
    weights = {name: value.contiguous().cpu() for name, value in kept.items()}
    if beside is not None:
        return [_write_beside(weights, path, most, beside)]
    parts: list[dict[str, Tensor]] = [{}]
    room = most - _HEADER
    for name, value in weights.items():
        if parts[-1] and sum(v.nbytes for v in parts[-1].values()) + value.nbytes > room:
            parts.append({})
        parts[-1][name] = value
    paths = [path] if len(parts) == 1 else [part_of(path, i + 1, len(parts)) for i in range(len(parts))]
    for file, part in zip(paths, parts, strict=True):
        write_whole(file, save(part))
    return paths


def _write_beside(weights: Mapping[str, Tensor], path: Path, most: int, beside: Path) -> Path:
    if beside.resolve().parent != path.resolve().parent:
        raise ValueError(f"{beside} must lie in the folder of {path}, which names it")
    other = read_weights(beside)
    alike = {name for name, value in weights.items() if name in other and torch.equal(value, other[name])}
    own = {name: value for name, value in weights.items() if name not in alike}
    if sum(value.nbytes for value in own.values()) > most - _HEADER:
        raise ValueError(f"what {beside} does not have is more than {most:,} bytes")
    write_whole(path, save(own, beside_of(beside, alike)))
    return path


def refine_codebooks(checkpoint: Path, tiles: Tensor, path: Path, rounds: int = 3) -> None:
    """Write a McQuic checkpoint whose words are the means of what they stand for over more tiles (``vq_words.refine``).

    What the run had measured on held-out tiles is of other words, and does not go along.

    Args:
        checkpoint: ``best.pt`` of a run.
        tiles: [n, 3, H, W] uint8.
        path: the checkpoint to write; it says over how many tiles.

    Raises:
        ValueError: the checkpoint is of another family.
    """
    stored = load_checkpoint(checkpoint)
    model = type(_model(stored)).from_state_dict(stored["model"]).eval()
    if not isinstance(model, McQuic):
        raise ValueError(f"codebooks are McQuic's; {checkpoint} is of family {stored['config']['family']!r}")
    rate_weight = stored["config"]["objective"].get("rate_weight", 0.0)
    vq_words.refine(model, tiles.float() / 127.5 - 1, rounds, rate_weight)
    with written_whole(path) as file:
        torch.save({**stored, "model": model.state_dict(), "validation": None, "refined_on": len(tiles)}, file)


def fit_context(checkpoint: Path, tiles: Tensor, path: Path, steps: int) -> None:
    """Fit a McQuic's code context to the codes of training tiles and write its weights as float16 safetensors.

    Args:
        checkpoint: ``best.pt`` of a run. Codes are those of its weights as float16 holds them, which is what ships.
        tiles: [n, 3, H, W] uint8.
        path: the file to write; ``read_context`` reads it. A context that is there already is gone on from, since a
            run's codebooks may have moved a little since.

    Raises:
        ValueError: the checkpoint is of another family, or the context that is there of another size.
    """
    stored = load_checkpoint(checkpoint)
    model = type(_model(stored)).from_state_dict(_float16(stored["model"])).eval()
    if not isinstance(model, McQuic):
        raise ValueError(f"code contexts are McQuic's; {checkpoint} is of family {stored['config']['family']!r}")
    start = read_context(path) if path.exists() else None
    if start is not None and (start.m, start.k) != (model.m, model.k[0]):
        raise ValueError(f"{path} has {start.m} codebooks of {start.k} words, the model {model.m} of {model.k[0]}")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    codes = code_context.finest_codes(model, tiles)
    device = str(next(model.parameters()).device)
    fitted = code_context.fit(codes, model.k[0], start=start, steps=steps, device=device)
    write_whole(path, save({k: v.half().contiguous() for k, v in fitted.state_dict().items()}))


def read_context(path: Path) -> CodeContext:
    """What ``fit_context`` wrote."""
    return CodeContext.from_state_dict({k: v.float() for k, v in load_file(path).items()})


def export(
    checkpoint: Path,
    tiles: Tensor,
    path: Path,
    name: str,
    *,
    coding_only: bool = False,
    context: CodeContext | None = None,
    transforms: Codec | None = None,
) -> Codec:
    """Turn a checkpoint into a codec file, calibrated on training tiles (never on test images).

    Args:
        checkpoint: ``best.pt`` of a run.
        tiles: [n, 3, H, W] uint8, some of which set the ranges of the integer path.
        path: the codec file to write.
        coding_only: float16 weights without the float entropy network, as the package ships them.
        context: of McQuic's finest codes; None: one table for each codebook.
        transforms: the codec whose transforms of integers are taken over, where the run left its floats as they were;
            None: they are made anew.

    Raises:
        ValueError: the run's transforms are not those of ``transforms``.
    """
    stored = load_checkpoint(checkpoint)
    model = type(_model(stored)).from_state_dict(_float16(stored["model"]))
    every = max(len(tiles) // _CALIBRATION_TILES, 1)
    images = list(tiles[::every][:_CALIBRATION_TILES])
    if transforms is None:
        codec = Codec(model, calibration=images, name=name, context=context)
    else:
        codec = _beside(model, [as_batch(x)[0] for x in images], name, transforms)
    codec.save(path, half=coding_only, training=not coding_only)
    return codec


def _beside(model: Any, images: Sequence[Tensor], name: str, other: Codec) -> Codec:
    """The codec of ``model`` with the transforms of ``other``, which are made of the same floats."""
    kind = BY_FAMILY[model.family]
    if not issubclass(kind, GaussianCoder) or other.pixels is None:
        raise ValueError(f"{other!r} has no transforms of integers for a model of family {model.family!r}")
    other.pixels.check_model(model)
    floats = dict(model.named_parameters())
    for key, restored in other.transforms().named_parameters():
        trained = floats.get(key)
        if trained is None or trained.shape != restored.shape:
            raise ValueError(f"{key} of {other!r} is no weight of the run's model")
        if restored.ndim == 4 and (restored - trained).square().mean() > _NEAR**2 * trained.square().mean():
            raise ValueError(f"the transforms of {other!r} are others than the run's: {key} differs")
    return Codec._of(kind(model, kind.convert(model, images), True, other.pixels), name)


def write_card(path: Path, codec: Codec, checkpoint: Path, notes: dict[str, Any], results: Any = None) -> None:
    """Write the JSON card beside the weights.

    Args:
        path: the card, ``<name>.json``, beside the codec file, ``<name>.safetensors``.
        notes: what only the trainer knows: data, licences, hardware; ``growth``, of the integers' rate over the float
            path's, gets a place of its own.
        results: what ``fastlic eval --json`` wrote, or None; the card keeps this codec's averages and BD-rates.
    """
    stored = load_checkpoint(checkpoint)
    refined = {"codebooks_refined_on": stored["refined_on"]} if "refined_on" in stored else {}
    growth = notes.get("growth")
    notes = {key: value for key, value in notes.items() if key != "growth"}
    card = {
        "name": codec.name,
        "family": codec.family,
        "fingerprint": codec.fingerprint.hex(),
        "entropy_fingerprint": codec.entropy_fingerprint.hex(),
        "reads": [fingerprint.hex() for fingerprint in codec.reads],
        "sha256": hashlib.sha256(path.with_suffix(".safetensors").read_bytes()).hexdigest(),
        "architecture": codec.config,
        "training": {**stored["config"], "steps_done": stored["step"], **refined, **notes},
        "held_out": stored["validation"],
        "growth": growth,
        "results": None if results is None else _own(results, codec),
    }
    write_whole(path, f"{json.dumps(card, indent=1)}\n".encode())


def _own(results: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
    try:
        if results["codecs"].get(codec.name) != codec.fingerprint.hex():
            raise ValueError(f"they are those of {results['codecs']}")
        return {
            "images": results["images"],
            "averages": [row for row in results["averages"] if row["codec"] == codec.name],
            "bd_rate": [row for row in results["bd_rate"] if row["codec"] == codec.name],
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        wanted = f"{codec.name!r}, {codec.fingerprint.hex()}"
        raise ValueError(f"results must be what `fastlic eval --json` wrote of {wanted}: {error}") from error
