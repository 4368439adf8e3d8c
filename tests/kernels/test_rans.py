"""The native stream on the device: the C++ coder's bytes, symbols and verdicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastlic.errors import CorruptStreamError
from fastlic.ops.rans import rans_decode, rans_encode
from fastlic.ops.tables import gaussian_tables, nearest_scale_thresholds

SCALES = np.exp(np.linspace(np.log(0.11), np.log(256.0), 64))
INT32 = np.iinfo(np.int32)
EXTREMES = np.array([INT32.min, INT32.max, -128, 127, 128, 32767, -32768, 65536, -1, 0])


@pytest.fixture(scope="module", params=[10, 12])
def tables(request):
    return gaussian_tables(SCALES, request.param)


def on_device(tables, device):
    from fastlic.kernels.rans import DeviceTables

    return DeviceTables.of(tables.cdf, tables.lengths, tables.offsets, tables.shifts, tables.precision, device)


def symbols_of(count: int, seed: int, escapes: bool = True):
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(np.log(0.05), np.log(300.0), count))
    symbols = np.rint(rng.normal(size=count) * scale).astype(np.int32)
    if escapes and count:
        at = rng.integers(0, count, 1 + count // 30)
        symbols[at] = rng.choice(EXTREMES, at.size)
    return symbols, np.searchsorted(nearest_scale_thresholds(SCALES), scale).astype(np.uint8)


@pytest.mark.parametrize(("count", "lanes"), [(1, 0), (5, 1), (70, 16), (200, 64), (64, 32)])
def test_bytes_and_symbols_are_those_of_the_cpu(count, lanes, tables, device):
    from fastlic.kernels import rans
    from fastlic.kernels import rans_encode as encoder

    pairs = [symbols_of(count, seed) for seed in (1, 2)]
    symbols, indexes = (torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*pairs, strict=True))
    wanted = [rans_encode(s, i, tables, lanes=lanes) for s, i in pairs]
    packed = on_device(tables, device)
    assert encoder.encode(symbols, indexes, packed, lanes) == wanted
    opened = rans.open_streams(wanted, device)
    pieces = [rans.decode(opened, part, packed) for part in indexes.split([count // 3, count - count // 3], 1)]
    rans.finish(opened, wanted)
    assert torch.equal(torch.cat(pieces, 1), symbols)


def test_the_default_number_of_lanes_is_the_cpus(tables, device):
    from fastlic.kernels import rans_encode as encoder

    entries = torch.arange(6000, dtype=torch.int32) % 4096 | 7 << 12
    for count, wanted in ((100, [1, 1]), (4096, [2, 4]), (6000, [2, 8])):
        same = torch.stack([entries[:count]] * 2)
        bits = torch.stack([torch.zeros(count, dtype=torch.int32), torch.full((count,), 16, dtype=torch.int32)])
        # 9 and 25 bits for each symbol; lanes double while each has 4000 bytes.
        assert encoder.choose_lanes(same, bits, 12) == wanted


def test_nothing_is_no_bytes(tables, device):
    from fastlic.kernels import rans
    from fastlic.kernels import rans_encode as encoder

    none = torch.empty(2, 0, dtype=torch.int32, device=device)
    assert encoder.encode(none, none.to(torch.uint8), on_device(tables, device)) == [b"", b""]
    rans.finish(rans.open_streams([b""], device), [b""])


def verdict_of_cpu(data, indexes, tables):
    try:
        return rans_decode(data, indexes, tables).tolist()
    except CorruptStreamError:
        return None


@pytest.mark.fuzz
def test_damaged_streams_get_the_verdict_of_the_cpu(device):
    from fastlic.kernels import rans

    tables = gaussian_tables(SCALES)
    packed = on_device(tables, device)
    symbols, indexes = symbols_of(120, 5)
    whole = rans_encode(symbols, indexes, tables, lanes=64)
    rng = np.random.default_rng(3)
    damaged = [whole[:-1], whole[:300], whole + b"\x01", b"", b"\x06"]
    for _ in range(10):
        changed = bytearray(whole)
        changed[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(changed))
    reported = 0
    for data in damaged:
        wanted = verdict_of_cpu(data, indexes, tables)
        try:
            opened = rans.open_streams([data], device)
            found = rans.decode(opened, torch.from_numpy(indexes)[None].to(device), packed)[0].tolist()
            rans.finish(opened, [data])
        except CorruptStreamError:
            found = None
            reported += 1
        assert found == wanted
    assert reported >= 10
