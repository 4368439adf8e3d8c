"""Seeds of the fuzz targets: ``python fuzz/seeds.py unpack OUT`` or ``... pack FOUND`` (folders named by target).

The corpus is one zip per target, so that hundreds of tiny files stay out of the tree. `pack` adds new files to it, and
valid streams made here, which random mutation would hardly find: a decoder only accepts bytes that end in the encoder's
first state.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import models  # the neighbour, models.py
import numpy as np

CORPUS = Path(__file__).resolve().parent / "corpus"
STAMP = (2020, 1, 1, 0, 0, 0)  # equal contents give equal archives


def valid_streams() -> dict[str, list[bytes]]:
    """Inputs in the layouts that the targets read, with the tables that they hold."""
    from fastlic.ops.categorical import CategoricalTables
    from fastlic.ops.compressai_rans import CompressAiTables, encode_with_indexes
    from fastlic.ops.rans import rans_encode
    from fastlic.ops.tables import CdfTables

    rans = CdfTables(
        [0, 300, 3700, 4000, 4096, 0, 4095, 4096, 0, 1000, 2000, 3000, 4000, 4096, 0, 1, 4000, 4096, 0, 2048, 4096],
        [5, 3, 6, 4, 3],
        [-1, 0, -2, 100000, -3],
        [0, 0, 3, 1, 16],
    )
    compressai = CompressAiTables(
        [[0, 1, 65534, 65535, 65536], [0, 65535, 65536, 0, 0], [0, 20000, 40000, 60000, 65536]],
        [5, 3, 5],
        [-1, 7, -100000],
    )
    categorical = CategoricalTables(
        np.concatenate([[0, 1, 2, 16384, 0, 16384], np.append(np.arange(1000) * 16, 16384)]), [4, 2, 1001], 14
    )
    seeds: dict[str, list[bytes]] = {"rans_decode": [], "compressai_decode": [], "categorical_decode": []}
    for count in (0, 1, 5, 64, 130, 400):
        rng = np.random.default_rng(count)
        for rows, target in ((5, "rans_decode"), (3, "compressai_decode"), (3, "categorical_decode")):
            indexes = np.full(count, (count & 0xFF) % rows, np.uint8)
            indexes[: count // 4] = rng.integers(0, rows, count // 4)
            prefix = struct.pack("<H", count)
            if target == "rans_decode":
                symbols = np.choose(indexes, [0, 0, 5, 200001, -131072]) + rng.integers(-2, 3, count)
                for lanes in (1, 8, 64):
                    stream = rans_encode(symbols, indexes, rans, lanes=lanes)
                    head = prefix + bytes([63, lanes.bit_length() - 1]) + indexes[: count // 4].tobytes()
                    seeds[target].append(head + stream)
            elif target == "compressai_decode":
                symbols = np.choose(indexes, [0, 7, -99999]) + rng.integers(-1, 2, count)
                stream = encode_with_indexes(symbols, indexes, compressai)
                seeds[target].append(prefix + indexes[: count // 4].tobytes() + stream)
            else:
                symbols = rng.integers(0, np.array([3, 1, 1000])[indexes]).astype(np.int32)
                stream = categorical.native.encode_many([symbols], [indexes], 1)[0]
                seeds[target].append(prefix + indexes[: count // 4].tobytes() + stream)
        packed = packing_tables()
        indexes = np.full(count, (32900 + count) % 256 % 67, np.uint8)
        indexes[: count // 4] = rng.integers(0, 67, count // 4)
        stream = packed.native.encode_many([rng.integers(0, 256, count).astype(np.int32)], [indexes], 1)[0]
        prefix = struct.pack("<H", 32900 + count)  # 47 times 700, and the count
        seeds["categorical_decode"].append(prefix + indexes[: count // 4].tobytes() + stream)
    more = {
        "codec_files": valid_codecs(),
        "codec_streams": valid_codec_streams(),
        "container": valid_files(),
        "planes": valid_planes(),
    }
    return seeds | more | {"codes_decode": valid_codes(), "slices_decode": valid_images()}


def packing_tables() -> Any:
    """The second tables of ``categorical_decode``."""
    from fastlic.ops.categorical import CategoricalTables

    distances = np.abs(np.arange(255) - 128)
    widths = np.stack([1 + 4000 // (60 + (1 + row) * distances) for row in range(67)])
    cdf = np.concatenate([np.zeros((67, 1)), np.cumsum(widths, axis=1), np.full((67, 1), 1 << 14)], axis=1)
    return CategoricalTables(cdf.astype(np.int32).reshape(-1), np.full(67, 257, np.int32), 14)


def valid_codes() -> list[bytes]:
    """Inputs of ``codes_decode``, whose model lives in C++: codes that it encodes itself, and bytes as streams."""
    seeds = []
    for number in range(40):
        rng = np.random.default_rng(number)
        height, width = (int(rng.integers(1, limit)) for limit in (5, 19))
        head = bytes([number % 4 != 0, height - 1, width - 1]) + rng.integers(0, 256, 4, np.uint8).tobytes()
        spread = int(rng.integers(2, 38))
        seeds.append(head + rng.integers(0, spread, 3 * height * width).astype(np.uint8).tobytes())
    return seeds


def valid_files() -> list[bytes]:
    """Inputs of ``container``: files as they are and with checksums to mend, headers and layouts."""
    from fastlic.ops.container import pack_container

    seeds = []
    for number, sizes in enumerate(([0], [1], [9, 60], [127, 128], [300, 5, 0], [3] * 5, [0] * 64, [2] * 64)):
        rng = np.random.default_rng(number)
        sections = [rng.bytes(size) for size in sizes]
        side = (1, 127, 128, 512, 768, 16384, 1 << 19, (1 << 20) - 1)
        height, width = side[number], side[-1 - number]
        version, model, quality, fingerprint = 1 + number % 3, 1 + number, 16 * number, rng.bytes(8)
        channels = 3 if version < 3 else 4 - number // 3
        kinds = [kind for kind in (1, 2, 5) if version == 3 and (kind != 1 or channels % 2 == 0)]
        attachments = [(kind, rng.bytes(3 * kind)) for kind in kinds]
        file = pack_container((version, model, quality, fingerprint, height, width, channels), sections, attachments)
        head = struct.pack("<BBB8sIIBB", version, model, quality, fingerprint, height, width, channels, len(kinds))
        head += b"".join(bytes([kind, len(own)]) + own for kind, own in attachments) + bytes([len(sections)])
        framing = len(file) - sum(sizes) - sum(len(own) for _, own in attachments)
        layout = struct.pack("<HBBB", framing, len(sizes), 66, 255 if number % 2 else number)
        seeds += [
            b"\x40" + file,
            b"\x60" + file,
            b"\x60" + file[:4] + b"\x04" + file[5:],
            b"\x60" + file[:16] + b"\xff" * 4 + b"\x7f" + file[17:],
            b"\x60" + file[:framing],
            b"\x00" + head + b"".join(bytes([len(section) % 256]) + section[:255] for section in sections),
            b"\x20" + layout + b"".join(struct.pack("<BQ", 0, size) for size in sizes) + b"\0" + file,
        ]
    for number in range(16):  # of version 3: every number of channels with every kind of metadata, and none
        rng = np.random.default_rng(number)
        channels, metadata = 1 + number % 4, ((), (2,), (3, 4), (2, 3, 4, 5, 255))[number // 4]
        kinds = (1,) * (channels % 2 == 0) + metadata
        attachments = [(kind, rng.bytes(int(rng.integers(0, 12)))) for kind in kinds]
        header = (3, 1 + number % 8, 64, rng.bytes(8), 40, 300, channels)
        seeds += [first + pack_container(header, [b"z", rng.bytes(5)], attachments) for first in (b"\x40", b"\x60")]
    return seeds


def valid_planes() -> list[bytes]:
    """Inputs of ``planes``: samples to code, and coded ones."""
    from fastlic.ops.plane import plane_encode

    seeds = []
    for number in range(12):
        rng = np.random.default_rng(number)
        height, width = (int(rng.integers(1, limit)) for limit in (33, 65))
        rows = np.hypot(*np.mgrid[-16 : height - 16, -20 : width - 20]) < 2 * number
        samples = np.where(rows, 255, rng.integers(0, 1 << number % 9, (height, width))).astype(np.uint8)
        head = bytes([height, width, number % 4, number % 5])
        seeds += [b"\0" + head + b"\0" + samples.tobytes(), b"\1" + head + plane_encode(samples)]
    return seeds


def valid_codec_streams() -> list[bytes]:
    """Inputs of ``codec_streams``: small images by each of its codecs."""
    import fastlic
    from fastlic import light

    seeds = []
    for kind, file in enumerate(models.codec_files()):
        codec = light.Codec(file)
        for number, (height, width) in enumerate(((1, 1), (7, 40), (33, 18), (64, 65), (130, 20))):
            rng = np.random.default_rng(number)
            x = rng.integers(0, 256, (height, width, 3)).astype(np.uint8) // (1 + 4 * number)
            quality = 1 + number * max(codec.qualities - 1, 0) / 4
            stream = light.compress(x, codec, quality)
            seeds.append(bytes([64 + kind + 4 * number, number % 2 * min(codec.previews, 1)]) + stream)
            seeds.append(bytes([kind, 0]) + stream)
        for number, channels in enumerate((1, 2, 3, 4)):  # version 3: grey, alpha, metadata
            rng = np.random.default_rng(number)
            x = rng.integers(0, 256, (9 + number, 12, channels)).astype(np.uint8) // (1 + 4 * number)
            for metadata in (fastlic.Metadata(), fastlic.Metadata(b"profile", b"II*\0", b"<x/>")):
                stream = light.compress(x, codec, 1 if codec.qualities else None, metadata=metadata)
                if stream[4] == 3:
                    seeds.append(bytes([64 + kind + 4 * number, 0]) + stream)
    return seeds


def valid_codecs() -> list[bytes]:
    """Inputs of ``codec_files``: the smallest codec, and files that hold a few arrays of every kind."""
    import tempfile

    import torch

    from fastlic.codec import storage

    seeds = [b"\x40" + models.codec_files()[0]]
    for number in range(24):
        rng = np.random.default_rng(number)
        shapes = ((40, 30), (32, 4, 3, 3), (1100,), (3,), (2, 0), ())
        weights = {
            f"w{i}": np.asarray(rng.normal(size=shape) * 9).astype(np.int8)
            for i, shape in enumerate(shapes[number % 3 :])
        }
        wide = {
            f"t.{i}": np.asarray(rng.normal(size=shape) * 300).astype(np.int16)
            for i, shape in enumerate(shapes[number % 4 :])
        }
        floats = {"gain.worth": torch.from_numpy(rng.normal(size=number % 3).astype(np.float32))}
        config = {"N": number, "widths": [1, number], "named \u00e9": number % 2 == 0, "x": None}
        family = ("jahp", "mlic++", "mcquic", "scale")[number % 4]
        reads = tuple(rng.bytes(8) for _ in range(number % 3))
        more = wide if number % 2 else {}
        stored = storage.StoredCodec(
            f"n{number}", family, config, floats, weights | {"b": np.arange(5, dtype=np.int32)}, more, reads
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "c.safetensors"
            storage.write(path, stored, half=number % 2 == 0, packed=number % 5 > 0)
            seeds.append(bytes([64 if number % 7 else 0]) + path.read_bytes())
    return seeds


def valid_images() -> list[bytes]:
    """Inputs of ``slices_decode``: sections of small images, and latents that it encodes itself."""
    from fastlic.entropy.groups.model import IntegerGroups
    from fastlic.entropy.mlic.model import IntegerMLIC
    from fastlic.entropy.passes import hyper_size
    from fastlic.ops.latents import Target

    seeds = []
    kinds = {"mlic": 0, "mlic_plus": 1, "mlic_plus_plus": 2, "groups": 3, "mlic_early": 130}
    for name, arrays in models.load().items():
        kind = kinds[name]
        model = (IntegerGroups if name == "groups" else IntegerMLIC).from_arrays(arrays)
        for height, width, spread in ((1, 2, 40), (2, 3, 60), (3, 5, 90), (5, 4, 300), (9, 11, 3)):
            rng = np.random.default_rng(height)
            z = (rng.normal(size=(model.hyper_channels, *hyper_size(height, width))) * spread).astype(np.int32)
            y = (rng.normal(size=(model.latent_channels, height, width)) * spread).astype(np.int32)
            sections = model.engine.encode_many([Target(z, y)])[0][0]
            head = bytes([height - 1, width - 2, 1])
            if max(map(len, sections[:-1])) < 256:
                body = b"".join(bytes([len(section)]) + section for section in sections[:-1]) + sections[-1]
                seeds += [bytes([kind]) + head + body, bytes([kind + 12]) + head + body]
            latents = rng.integers(-128, 128, z.size + y.size) // rng.integers(1, 40)
            damage = struct.pack("<II", *rng.integers(0, 2**32, 2))
            seeds.append(bytes([kind + 4]) + head + damage + latents.astype(np.int8).tobytes())
    return seeds


def unpack(out: Path) -> None:
    for archive in CORPUS.glob("*.zip"):
        with zipfile.ZipFile(archive) as seeds:
            seeds.extractall(out / archive.stem)


def pack(found: Path) -> None:
    CORPUS.mkdir(exist_ok=True)
    made = valid_streams()
    for target in sorted({p.name for p in found.iterdir() if p.is_dir()} | set(made)):
        contents = {path.read_bytes() for path in (found / target).glob("*")} | set(made.get(target, []))
        archive = CORPUS / f"{target}.zip"
        if archive.exists():
            with zipfile.ZipFile(archive) as old:
                contents |= {old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
            for name, data in sorted((hashlib.sha1(data).hexdigest()[:16], data) for data in contents):
                new.writestr(zipfile.ZipInfo(name, STAMP), data)
        print(f"{target}: {len(contents)} seeds")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("pack", "unpack"):
        raise SystemExit(__doc__)
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]))
