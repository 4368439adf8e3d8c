"""Streams that may never change meaning: whatever a later release does, these bytes decode to these latents.

``tiny_*.safetensors`` are small untrained codecs, that of ``tiny_early`` with its weights packed; the ``.flic`` files
beside them were made with them from the shipped photos. Those of ``PIXELS`` have transforms of integers: their streams
decode to the same pixels for ever, and the photos make the same streams. To add a stream for a new format version, run
this file as a script: it writes files that are missing and touches none that exist.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from fastlic import Codec, _native
from fastlic.codec.image_files import read_image
from fastlic.models import JAHP, MLIC, Hyperprior, McQuic, MLICPlus, MLICPlusPlus, ScaleHyperprior
from fastlic.ops.backends import instruction_set, torch_threads

GOLDEN = Path(__file__).parents[1] / "golden"
MLIC_FAMILY = {"tiny_mlic": MLIC, "tiny_mlicp": MLICPlus, "tiny_mlicpp": MLICPlusPlus, "tiny_early": MLICPlusPlus}
OLDER = ["tiny_jahp", *MLIC_FAMILY]
OF_SHIPPED_KINDS = {"tiny_pixels_mlic": MLIC, "tiny_pixels_mlicp": MLICPlus, "tiny_pixels_mlicpp": MLICPlusPlus}
PIXELS = ["tiny_pixels_jahp", "tiny_pixels_scale", *OF_SHIPPED_KINDS, "tiny_pixels_official", "tiny_pixels_mcquic"]
CODECS = [*OLDER, *PIXELS]


class Stream(NamedTuple):
    codec: str
    photo: str
    rows: slice
    columns: slice
    quality: float


STREAMS = {
    "chelsea_q1": Stream("tiny_jahp", "chelsea", slice(0, 96), slice(0, 136), 1.0),
    "chelsea_q8": Stream("tiny_jahp", "chelsea", slice(0, 96), slice(0, 136), 8.0),
    "astronaut_q4.5": Stream("tiny_jahp", "astronaut", slice(3, 180), slice(10, 111), 4.5),
    "one_pixel_q8": Stream("tiny_jahp", "astronaut", slice(0, 1), slice(0, 1), 8.0),
} | {
    # Those above and the first of these are of format version 1, the others of version 2.
    f"{codec}_{ending}": Stream(codec, "astronaut", slice(3, 180), slice(10, 111), 4.5)
    for ending, codecs in (("astronaut", list(MLIC_FAMILY)), ("v2", CODECS))
    for codec in codecs
}
OF_PIXELS = [name for name, stream in STREAMS.items() if stream.codec in PIXELS]


def load(name: str) -> Codec:
    return Codec.load(GOLDEN / f"{name}.safetensors")


def expected(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def pixels(stream: Stream) -> torch.Tensor:
    return read_image(GOLDEN.parent / "images" / f"{stream.photo}.png").pixels[:, stream.rows, stream.columns]


def digest(codec: Codec, data: bytes) -> str:
    latents = codec.decode_latents(data)
    names = ("z", "y") if "z" in latents else sorted(latents)
    return hashlib.sha256(b"".join(latents[k].numpy().astype("<i8").tobytes() for k in names)).hexdigest()


@pytest.mark.golden
@pytest.mark.parametrize("name", STREAMS)
def test_golden_stream_decodes_to_the_recorded_latents_and_photo(name: str):
    stream = STREAMS[name]
    codec, recorded = load(stream.codec), expected(stream.codec)
    data = (GOLDEN / f"{name}.flic").read_bytes()
    assert digest(codec, data) == recorded["latents"][name]
    error = codec.decompress(data, dtype=torch.uint8).float() - pixels(stream).float()
    assert error.square().mean().sqrt().item() == pytest.approx(recorded["rms"][name], abs=0.1)


@pytest.mark.golden
@pytest.mark.parametrize("isa", _native.supported_isas())
@pytest.mark.parametrize("name", OF_PIXELS)
def test_golden_stream_and_its_photo_make_each_other_to_the_last_bit(name: str, isa: str):
    stream = STREAMS[name]
    codec, data = load(stream.codec), (GOLDEN / f"{name}.flic").read_bytes()
    for threads in (1, 3):
        with instruction_set(isa), torch_threads(threads):
            decoded = codec.decompress(data, dtype=torch.uint8)
            assert pixel_digest(decoded) == expected(stream.codec)["pixels"][name]
            assert codec.compress(pixels(stream), stream.quality) == data


@pytest.mark.golden
@pytest.mark.parametrize("name", OF_PIXELS)
def test_golden_pixels_are_those_of_the_plain_reference(name: str):
    stream = STREAMS[name]
    codec, data = load(stream.codec), (GOLDEN / f"{name}.flic").read_bytes()
    latents, size = codec.decode_latents(data), pixels(stream).shape[1:]
    if codec.family == "mcquic":
        decoded = codec.pixels.synthesise([latents[k] for k in sorted(latents)], size, backend="reference")
    else:
        decoded = codec.pixels.synthesise(latents["y"], stream.quality, size, backend="reference")
    assert pixel_digest(decoded) == expected(stream.codec)["pixels"][name]


@pytest.mark.golden
@pytest.mark.parametrize("name", CODECS)
def test_golden_codec_keeps_its_fingerprints(name: str):
    codec = load(name)
    recorded = expected(name)
    assert codec.entropy_fingerprint.hex() == recorded["entropy_fingerprint"]
    assert codec.fingerprint.hex() == recorded["fingerprint"]


def pixel_digest(image: torch.Tensor) -> str:
    assert image.dtype == torch.uint8
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()


def _tiny(name: str) -> Any:
    from fastlic.train import klt
    from fastlic.train.objectives.gaussian import LAMBDAS

    torch.manual_seed(0)
    if name == "tiny_pixels_mcquic":
        return McQuic(8, 2, [32, 16], prices=[2 - i / 8 for i in range(8)]).eval()
    model: Hyperprior
    more: dict = {}
    if name in ("tiny_jahp", "tiny_pixels_jahp"):
        model = JAHP(8, 12, (12, 16, 24), qualities=8).eval()
    elif name == "tiny_pixels_scale":
        model = ScaleHyperprior(8, 12, (12, 16, 24), qualities=8).eval()
    else:
        sizes = {"channel": (16, 16, 16), "inter": (8, 16, 8), "intra": (16, 8), "local": (16, 8)}
        sizes |= {"parameters": (24, 16, 16), "residual": (16, 16)}
        more = {"blocks": 1, "early": True} if name == "tiny_early" or name in OF_SHIPPED_KINDS else {}
        family = (MLIC_FAMILY | OF_SHIPPED_KINDS).get(name, MLICPlusPlus)
        widths = None if name == "tiny_pixels_official" else (12, 16, 24)
        model = family(8, 24, widths, qualities=8, slices=2, sizes=sizes, **more).eval()
    source = read_image(GOLDEN.parent / "images" / "astronaut.png").pixels
    if name != "tiny_pixels_official":  # whose transforms have no closed form: its image is noise, but always the same
        klt.initialise(model, source.float()[None, :, :224, :304] / 255, LAMBDAS["mse"])
    if more:  # or its second pass would do what the first does
        torch.nn.init.normal_(model.entropy_parameters_early.fusion[0].weight, std=0.2)  # type: ignore[index, union-attr]
    return model


def _write_missing(name: str) -> None:
    if not (GOLDEN / f"{name}.safetensors").exists():
        source = read_image(GOLDEN.parent / "images" / "astronaut.png").pixels
        codec = Codec(_tiny(name), calibration=[source], name="tiny")
        codec.save(GOLDEN / f"{name}.safetensors", half=True, training=False)
    codec, record = load(name), GOLDEN / f"{name}.json"
    content = json.loads(record.read_text()) if record.exists() else {"latents": {}, "rms": {}}
    content |= {"fingerprint": codec.fingerprint.hex(), "entropy_fingerprint": codec.entropy_fingerprint.hex()}
    for key, stream in STREAMS.items():
        path = GOLDEN / f"{key}.flic"
        if stream.codec != name or path.exists():
            continue
        x = pixels(stream)
        data = codec.compress(x, stream.quality)
        assert isinstance(data, bytes)
        path.write_bytes(data)
        error = codec.decompress(data, dtype=torch.uint8).float() - x.float()  # type: ignore[union-attr]
        content["latents"][key] = digest(codec, data)
        content["rms"][key] = round(error.square().mean().sqrt().item(), 3)
        if name in PIXELS:
            decoded = codec.decompress(data, dtype=torch.uint8)
            content.setdefault("pixels", {})[key] = pixel_digest(decoded)  # type: ignore[arg-type]
    record.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    for each in CODECS:
        _write_missing(each)
