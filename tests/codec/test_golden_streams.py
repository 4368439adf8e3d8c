"""Streams that may never change meaning: whatever a later release does, these bytes decode to these latents.

``tiny_jahp.safetensors`` is a small untrained codec; the ``.flic`` files beside it were made with it from the shipped
photos. To add a stream for a new format version, run this file as a script: it writes files that are missing and
touches none that exist.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from fastlic import Codec
from fastlic.codec.image_files import read_image

GOLDEN = Path(__file__).parents[1] / "golden"
CODEC = GOLDEN / "tiny_jahp.safetensors"
EXPECTED = GOLDEN / "tiny_jahp.json"
STREAMS = {  # name -> photo, part of it, quality
    "chelsea_q1": ("chelsea", (slice(0, 96), slice(0, 136)), 1.0),
    "chelsea_q8": ("chelsea", (slice(0, 96), slice(0, 136)), 8.0),
    "astronaut_q4.5": ("astronaut", (slice(3, 180), slice(10, 111)), 4.5),
    "one_pixel_q8": ("astronaut", (slice(0, 1), slice(0, 1)), 8.0),
}


def digest(codec: Codec, data: bytes) -> str:
    latents = codec.decode_latents(data)
    return hashlib.sha256(b"".join(latents[k].numpy().astype("<i8").tobytes() for k in ("z", "y"))).hexdigest()


@pytest.mark.golden
@pytest.mark.parametrize("name", STREAMS)
def test_golden_stream_decodes_to_the_recorded_latents_and_photo(name: str):
    codec = Codec.load(CODEC)
    data = (GOLDEN / f"{name}.flic").read_bytes()
    assert digest(codec, data) == json.loads(EXPECTED.read_text())["latents"][name]
    photo, (rows, columns), _ = STREAMS[name]
    x = read_image(GOLDEN.parent / "images" / f"{photo}.png").pixels[:, rows, columns].float()
    x_hat = codec.decompress(data, dtype=torch.uint8).float()
    rms = (x_hat - x).square().mean().sqrt().item()
    assert rms == pytest.approx(json.loads(EXPECTED.read_text())["rms"][name], abs=0.1)


@pytest.mark.golden
def test_golden_codec_keeps_its_fingerprint():
    assert Codec.load(CODEC).fingerprint.hex() == json.loads(EXPECTED.read_text())["fingerprint"]


def _write_missing(codec: Codec) -> None:
    if not CODEC.exists():
        codec.save(CODEC, half=True, training=False)
    codec = Codec.load(CODEC)
    content = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {"latents": {}, "rms": {}}
    content["fingerprint"] = codec.fingerprint.hex()
    for name, (photo, (rows, columns), quality) in STREAMS.items():
        path = GOLDEN / f"{name}.flic"
        if path.exists():
            continue
        x = read_image(GOLDEN.parent / "images" / f"{photo}.png").pixels[:, rows, columns]
        data = codec.compress(x, quality)
        assert isinstance(data, bytes)
        path.write_bytes(data)
        error = codec.decompress(data, dtype=torch.uint8).float() - x.float()  # type: ignore[union-attr]
        content["latents"][name] = digest(codec, data)
        content["rms"][name] = round(error.square().mean().sqrt().item(), 3)
    EXPECTED.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    from fastlic.models import JAHP
    from fastlic.train import klt
    from fastlic.train.objectives.gaussian import LAMBDAS

    torch.manual_seed(0)
    model = JAHP(8, 12, (12, 16, 24), qualities=8).eval()
    source = read_image(GOLDEN.parent / "images" / "astronaut.png").pixels
    klt.initialise(model, source.float()[None, :, :224, :304] / 255, LAMBDAS["mse"])
    _write_missing(Codec(model, calibration=[source], name="tiny"))
