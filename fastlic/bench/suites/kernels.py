"""Every kernel beside its torch twin and beside what one would use instead; without a GPU the CPU's backends.

Shapes are those of the three families at 512x768, 1080p and 4K. On a GPU runs are repeated in a CUDA graph, with
operands in the cache as they are inside a codec; ``of roofline`` is held against the data sheet. Integer results are
compared before they are timed. ``python -m fastlic.bench kernels --gpu`` adds the tests, tuning and the sanitizer.
Entropy engine and rANS on the CPU have suites of their own, ``engine`` and ``rans``. Kernels of attention over slices
have no rows of their own: ``mlic++`` and ``mlic+`` run all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.bench import board, steps
from fastlic.bench.gpu_timing import fastest, repeated, synchronise
from fastlic.bench.peers import compressai_loops
from fastlic.bench.runner import Case, Run, Runs, Wanted, clock_of_torch, offered
from fastlic.entropy.passes import hyper_size
from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.lifelike.models import spreads
from fastlic.ops.codebook import codebook_nearest
from fastlic.ops.device_transform import DeviceTransform
from fastlic.ops.latents import Target
from fastlic.ops.transforms import TransformEngine

LATENTS = {"512x768": (32, 48), "1080p": (68, 120), "4K": (135, 240)}
M = 192  # channels of the latent, where a shape needs them
CPU = "C++, one core"
CODEBOOKS = {"m=2 d=64": (2, 64, 8192), "m=12 d=16": (12, 16, 8192)}


def on_gpu() -> bool:
    """Whether kernels are what is measured; otherwise the CPU's backends are."""
    return torch.cuda.is_available()


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def normal(*shape: int) -> Tensor:
    """Normal numbers, drawn on the CPU: a GPU's generator is of no more use after a capture that failed."""
    return torch.randn(shape).to(device())


def cases(wanted: Wanted) -> Iterator[Case]:
    parts: list[Any] = [codebook_cases]
    if on_gpu():
        parts += [quantise_cases, context_cases, checkerboard_cases, convolution_cases, transform_cases]
        parts += [partial(step_cases, name) for name in steps.STEPS]
        parts += [rans_cases, decode_cases, slices_cases]
    for part in parts:
        try:
            for case in part(wanted):
                yield case
                if on_gpu():
                    del case
                    torch.cuda.empty_cache()  # graphs keep what their runs allocated
        except Exception as error:  # one kernel's failure must not hide the others' results
            own = part.args[0] if isinstance(part, partial) else part.__name__
            print(f"\n{own}: {type(error).__name__}: {error}", file=sys.stderr)


def sizes(wanted: Wanted, label: str, ways: tuple[str, ...]) -> Iterator[tuple[int, int, dict[str, str]]]:
    """(rows, columns, names of cases by way or peer) of each size of latents of which any is asked for."""
    for (_, height, width), names in offered(wanted, ((k, *v) for k, v in LATENTS.items()), label, ways):
        yield height, width, names


def case(
    name: str, run: Run, operations: float, traffic: float, kind: str, peer: Run, peer_name: str, note: str = ""
) -> Case:
    """``operations``: multiplications and additions that the result takes; ``traffic``: bytes that must move."""
    if not on_gpu():
        return Case(name, run, operations / 1e9, "GFLOP", peer, peer_name, clock=clock_of_torch(), note=note)
    limit = fastest(kind, operations, traffic)
    again, times, how = repeated(run)
    other: Run | None = None
    other_times = 1
    if peer_name == CPU:  # no graph of the device holds what it does
        other = peer
    else:
        try:
            other, other_times, _ = repeated(peer, 1 if "reference" in peer_name else 5)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            note = "; ".join(part for part in (note, f"{peer_name} runs out of memory") if part)
    seconds, bound = limit or (0.0, "")
    work = operations / 1e12
    more: dict[str, Any] = {"roofline": work / seconds if limit else None, "bound": bound, "traffic": times * traffic}
    more |= {"clock": "wall", "repeats": times, "note": "; ".join(part for part in (note, how) if part)}
    return Case(name, again, times * work, "TFLOP", other, peer_name, other_times * work, **more)


def compared(
    names: dict[str, str], run: Run, operations: float, traffic: float, kind: str, peers: Runs, note: str = ""
) -> Iterator[Case]:
    """A case for each peer that is asked for."""
    for peer, name in names.items():
        yield case(name, run, operations, traffic, kind, peers[peer], peer, note)


def same(found: Any, wanted: Any) -> str:
    """Words for a note; raises if integers differ."""
    for a, b in zip(found, wanted, strict=True):
        if not torch.equal(a.cpu(), b.cpu()):
            raise AssertionError(f"{int((a.cpu() != b.cpu()).sum())} of {a.numel()} numbers differ from the reference")
    return "equal to the reference"


# ---- nearest codewords


def mcquic_distances(x: Tensor, words: Tensor) -> Tensor:
    """As McQuic computes it: |x|^2 + |c|^2 - 2 x.c for all pairs, then the smallest."""
    inner = torch.einsum("nmd,mkd->nmk", x, words)
    distance = (x**2).sum(2, keepdim=True) + (words**2).sum(2)[None] - 2 * inner
    return distance.argmin(-1)


def cdist(x: Tensor, words: Tensor) -> Tensor:
    return torch.cdist(x.transpose(0, 1), words).argmin(-1)


def codebook_cases(wanted: Wanted) -> Iterator[Case]:
    sizes = LATENTS if on_gpu() else {"512x768": LATENTS["512x768"]}
    # The reference takes half a minute a search on a CPU; tests compare it.
    others = ("mcquic", "cdist", "reference") if on_gpu() else ("mcquic", "cdist")
    choices = ((shape, size, *sizes[size], *CODEBOOKS[shape]) for size in sizes for shape in CODEBOOKS)
    for (*_, height, width, m, d, k), names in offered(wanted, choices, "codebook {} {} vs {way}", others):
        generator = torch.Generator().manual_seed(1)
        words = torch.randn(m, k, d, generator=generator).to(device())
        n = height * width
        near = torch.randint(k, (n, m), generator=generator).to(device())
        # Vectors near their words, as a trained encoder's are.
        x = torch.stack([words[g, near[:, g]] for g in range(m)], 1)
        x = x + 0.7 * torch.randn(n, m, d, generator=generator).to(device())
        run = _search(x, words)
        peers: Runs = {
            "mcquic": partial(mcquic_distances, x, words),
            "cdist": partial(cdist, x, words),
            "reference": partial(codebook_nearest, x, words, backend="reference"),
        }
        operations, traffic = 2.0 * n * m * k * d, 4.0 * (n * m * d + m * k * d) + 8 * n * m
        for peer, name in names.items():
            note = same([run()], [peers[peer]()]) if peer == "reference" else ""
            yield from compared({peer: name}, run, operations, traffic, "tf32x3", peers, note)


def _search(x: Tensor, words: Tensor) -> Run:
    if not on_gpu():
        return partial(codebook_nearest, x, words)
    from fastlic.kernels import codebook

    return lambda: codebook.nearest(x, words)[0]


# ---- between network and coder


def quantise_cases(wanted: Wanted) -> Iterator[Case]:
    """The head of a model without context, encoder's side: indexes, symbols and latents."""
    for height, width, names in sizes(wanted, "quantise head M=192 {} vs {way}", ("reference",)):
        from fastlic.kernels import quantize as kernels
        from fastlic.kernels.packing import pad_thresholds
        from fastlic.kernels.reference import quantize as reference

        target, scales, means = ((normal(1, height, width, M) * 640).int() for _ in range(3))
        head = torch.cat([scales.abs() << 5, means], 3)
        thresholds = pad_thresholds(scale_thresholds(scale_levels()), device())
        run = partial(kernels.quantise_head, target, head, thresholds)
        twin = partial(reference.quantise_head, target, head, thresholds)
        note = same(run(), twin())
        yield from compared(names, run, 10.0 * target.numel(), 21.0 * target.numel(), "ieee", {"reference": twin}, note)


# ---- what float networks are compared with


def jahp_layers(M: int) -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    widths = [(2 * M, M, 5, 5), (10 * M // 3, 4 * M, 1, 1), (8 * M // 3, 10 * M // 3, 1, 1), (2 * M, 8 * M // 3, 1, 1)]
    weights = [normal(*shape) / (shape[1] * shape[2] * shape[3]) ** 0.5 for shape in widths]
    return weights, [normal(shape[0]) for shape in widths]


def unfolded(y: Tensor, hyper: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """unfold and matrix products: the usual way to compute single positions."""
    columns = F.unfold(y, 5, padding=2)[0]
    context = torch.addmm(biases[0][:, None], weights[0].flatten(1), columns)
    x = torch.cat([hyper[0].flatten(1), context])
    for i in (1, 2, 3):
        x = torch.addmm(biases[i][:, None], weights[i].flatten(1), x)
        x = F.leaky_relu(x) if i < 3 else x
    return x


# ---- integers on a GPU


@cache
def device_model() -> tuple[Any, Any]:
    """(IntegerEntropyModel, DeviceEngine) of a JAHP with N = M = 192."""
    from fastlic.bench.suites.engine import codec_of

    model = codec_of(192).entropy
    return model, model.device_engine


@cache
def device_slices(name: str) -> tuple[Any, Any]:
    """(IntegerMLIC, DeviceSlices) of a model that ships."""
    import fastlic

    model = fastlic.load(name).entropy
    return model, model.device_engine


def latents(model: Any, height: int, width: int) -> tuple[Tensor, Tensor]:
    """z and y in units of 2^-6 with a trained model's spreads."""
    N, M = model.hyper_channels, model.latent_channels
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(N, *hyper_size(height, width), generator=generator) * spreads(N, 1)[:, None, None] / 2
    y = torch.randn(M, height, width, generator=generator) * spreads(M, 0)[:, None, None]
    return (z * 64).round().int(), (y * 64).round().int()


def context_macs(M: int, positions: int) -> float:
    return positions * (12.0 * M * 2 * M + 2 * M * (10 * M // 3) + (10 * M // 3) * (8 * M // 3) + (8 * M // 3) * 2 * M)


def context_cases(wanted: Wanted) -> Iterator[Case]:
    """The integer network at all positions at once: what training on integers or a rate estimate asks for."""
    for height, width, names in sizes(wanted, "integer context M=192 {} vs {way}", ("float64", "float unfold")):
        from fastlic.kernels import masked_context as kernels
        from fastlic.kernels.packing import as_map
        from fastlic.kernels.reference import masked_context as reference

        engine = device_model()[1]
        network = engine._network
        generator = torch.Generator().manual_seed(2)
        seen = torch.randint(-2047, 2048, (1, height, width, network.M), generator=generator).to(device())
        share = torch.randint(-1 << 20, 1 << 20, (1, height, width, network.hidden[0].columns), generator=generator)
        share = share.to(device(), torch.int32)
        given = as_map(seen, 2)
        run = partial(kernels.parameters, network, given, share)
        weights, biases = jahp_layers(M)
        y, hyper = (normal(1, c, height, width) for c in (M, 2 * M))
        twin = partial(reference.parameters, network, given, share)
        note = same(run(), twin())
        peers: Runs = {"float64": twin, "float unfold": partial(unfolded, y, hyper, weights, biases)}
        operations = 4.0 * context_macs(network.M, height * width)  # two planes of int8
        traffic = 7.0 * network.M * height * width + 4.0 * share.numel()
        yield from compared(names, run, operations, traffic, "int8", peers, note)


def checkerboard_cases(wanted: Wanted) -> Iterator[Case]:
    """The parameter network of a late slice of MLIC++ at one parity of the latent."""
    for height, width, names in sizes(wanted, "checkerboard MLIC++ {} vs {way}", ("reference", "float whole map")):
        from fastlic.ops.checkerboard import checkerboard_parameters, count_of

        network, maps, values, layers = board.problem(height, width, device())
        count = count_of(height, width, 1)
        operations = 4.0 * count * sum(layer["weight"].size for layer in layers)
        run = partial(checkerboard_parameters, network, maps, 1, backend="triton")
        twin = partial(checkerboard_parameters, network, maps, 1, backend="reference")
        floats = torch.cat(values, 3).permute(0, 3, 1, 2).float()
        stack = [torch.from_numpy(a["weight"]).float().to(device())[:, :, None, None] for a in layers]

        def whole(floats: Tensor = floats, stack: list[Tensor] = stack) -> Tensor:
            x = floats
            for i, weight in enumerate(stack):
                x = F.conv2d(x, weight)
                x = F.gelu(x) if i + 1 < len(stack) else x
            rows = torch.arange(x.shape[2], device=x.device)[:, None]
            return x * ((rows + torch.arange(x.shape[3], device=x.device)) % 2)

        note = same(run(), twin())
        traffic = 2.0 * count * sum(board.PARTS) + sum(layer.weights.numel() for layer in network.layers)
        traffic += 5.0 * count * board.CHANNELS
        peers: Runs = {"reference": twin, "float whole map": whole}
        yield from compared(names, run, operations, traffic, "int8", peers, note)


def convolution_cases(wanted: Wanted) -> Iterator[Case]:
    """The transposed 5x5 convolutions of hyper synthesis, the second of JAHP's."""
    for height, width, names in sizes(wanted, "integer convolution {} vs {way}", ("float64", "float32")):
        from fastlic.kernels.convolution import convolve
        from fastlic.kernels.packing import as_map

        model, engine = device_model()
        layer, plain = engine._hyper[1], model.hyper[1]
        rows, columns = -(-height // 2), -(-width // 2)
        generator = torch.Generator().manual_seed(1)
        x = torch.randint(-2047, 2048, (1, layer.inputs, rows, columns), generator=generator).to(device())
        source = as_map(x.permute(0, 2, 3, 1), layer.reach)
        run = partial(convolve, source, layer, "accumulators")
        weight = torch.from_numpy(plain.weight).to(device())
        bias = torch.from_numpy(plain.bias).to(device())

        def twin(kind: torch.dtype, x: Tensor = x, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            return F.conv_transpose2d(x.to(kind), weight.to(kind), bias.to(kind), 2, 2, 1)

        sums: Any = run()
        found = sums[..., : layer.outputs].permute(0, 3, 1, 2).long()
        note = same([found], [twin(torch.float64).round().long()])
        operations = 4.0 * 25 * layer.inputs * layer.outputs * rows * columns
        traffic = 2.0 * x.numel() + weight.numel() + 16.0 * layer.outputs * rows * columns
        peers: Runs = {"float64": partial(twin, torch.float64), "float32": partial(twin, torch.float32)}
        yield from compared(names, run, operations, traffic, "int8", peers, note)


def transform_cases(wanted: Wanted) -> Iterator[Case]:
    """g_a and g_s of ``jahp``, pixels to latents and back, on the device: beside torch's floats there, and beside the
    CPU's engine, whose numbers they are."""
    choices = ((part, size, *LATENTS[size]) for size in LATENTS for part in ("g_a", "g_s"))
    for (part, _, height, width), names in offered(
        wanted, choices, "transform {} of jahp {} vs {way}", ("float", "C++")
    ):
        from fastlic.bench.suites.transforms import QUALITY, codec_of

        codec = codec_of("jahp")
        integers, modules = codec.pixels, codec.transforms(device())
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randint(0, 256, (3, 16 * height, 16 * width), generator=generator, dtype=torch.uint8)
        given = pixels if part == "g_a" else integers.analyse(pixels, QUALITY, threads=torch.get_num_threads())
        call = integers.analyse if part == "g_a" else integers.synthesise
        x, threads = given[None].to(device()), torch.get_num_threads()
        floats = (x.float() / (255 if part == "g_a" else 64)).contiguous(memory_format=torch.channels_last)
        run = partial(call, x, QUALITY, backend="triton")
        peers: Runs = {
            "float": torch.no_grad()(partial(getattr(modules, part), floats)),
            "C++": partial(call, given, QUALITY, threads=threads),
        }
        note = same([run()[0]], [peers["C++"]()])
        for peer, name in names.items():
            other = waiting(peers[peer]) if peer == "float" else peers[peer]
            yield Case(name, waiting(run), 1, "image", other, peer, clock="wall", note=note)


def step_cases(step: str, wanted: Wanted) -> Iterator[Case]:
    """One step of networks of integers, latents to its outputs: beside the CPU's engine, whose numbers they are."""
    for height, width, names in sizes(wanted, f"step {step} M=192 {{}} vs {{way}}", ("C++",)):
        problem = steps.problem(step, M)
        height, width = (-(-side // problem.side) * problem.side for side in (height, width))
        arrays = problem.network.to_arrays("n")
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(height, width, problem.network.shapes[0].channels, generator=generator) * steps.LATENT
        x = x.round().int().permute(2, 0, 1)
        run = partial(DeviceTransform("n", arrays, device()).run, x[None].to(device()))
        twin = partial(TransformEngine("n", arrays).run, x.numpy())
        note = same([run()[0]], [torch.from_numpy(twin())])
        operations, traffic = (own * height * width for own in (problem.operations, problem.traffic))
        for name in names.values():
            yield case(name, run, operations, traffic, problem.kind, twin, CPU, note)


# ---- streams


def waiting(run: Run) -> Run:
    """``run``, and the device's end of it."""

    def whole() -> None:
        run()
        synchronise()

    return whole


def symbol_case(name: str, run: Run, peer: Run, symbols: int, peer_name: str, note: str) -> Case:
    return Case(name, waiting(run), symbols / 1e6, "Msym", peer, peer_name, clock="wall", note=note)


def decode_stream(data: bytes, indexes: Tensor, tables: Any) -> Tensor:
    from fastlic.kernels import rans

    return rans.decode(rans.open_streams([data], device()), indexes, tables)


def rans_cases(wanted: Wanted) -> Iterator[Case]:
    """The coder alone, one image: the kernel reads and writes the device's memory, the C++ coder main memory."""
    for height, width, names in sizes(wanted, "rans {way} M=192 {} vs C++", ("decode", "encode")):
        import numpy as np

        from fastlic.kernels.rans_encode import encode as encode_on_device
        from fastlic.ops.rans import rans_decode, rans_encode

        model, engine = device_model()
        scale = spreads(model.latent_channels, 0).repeat(height * width).numpy()
        rng = np.random.default_rng(0)
        symbols = np.rint(rng.normal(size=scale.size) * scale).astype(np.int32)
        indexes = model.scale_indexes(torch.from_numpy(np.round(scale * 1024)).long()).numpy()
        data = rans_encode(symbols, indexes, model.y_tables, lanes=64)
        on_device = [torch.from_numpy(a)[None].to(device()) for a in (symbols, indexes)]

        decode = partial(decode_stream, data, on_device[1], engine._y_tables.device)
        note = same([decode()], [on_device[0]])
        encode = partial(encode_on_device, on_device[0], on_device[1], engine._y_tables.device, 64)
        if encode() != [data]:
            raise AssertionError("the device's bytes differ from the C++ coder's")
        runs: dict[str, tuple[Run, Run]] = {
            "decode": (decode, partial(rans_decode, data, indexes, model.y_tables)),
            "encode": (encode, partial(rans_encode, symbols, indexes, model.y_tables, lanes=64)),
        }
        for way, name in names.items():
            yield symbol_case(name, *runs[way], scale.size, CPU, note)


def decode_cases(wanted: Wanted) -> Iterator[Case]:
    """JAHP N=M=192, stream to latents and back, against the C++ engine and CompressAI's loop; the coder of one image's
    z, and of all that is encoded, is the CPU's (fastlic.ops._device_streams)."""
    choices = ((size, driver, *LATENTS[size]) for size in LATENTS for driver in ("persistent", "launch"))
    for (_, driver, height, width), names in offered(wanted, choices, "jahp {way} {} {} vs C++", ("decode", "encode")):
        yield from both_ways(names, *device_model(), height, width, driver=driver)
    yield from compressai_cases(wanted)


def slices_cases(wanted: Wanted) -> Iterator[Case]:
    """The same of the MLIC++ that ships; and at one size of MLIC+, whose attention takes softmax over maps."""
    choices = [("mlic++", size, *LATENTS[size]) for size in LATENTS]
    choices.append(("mlic+", *choices[0][1:]))
    for (name, _, *size), names in offered(wanted, choices, "{} {way} {} vs C++", ("decode", "encode")):
        yield from both_ways(names, *device_slices(name), *size)


def both_ways(names: dict[str, str], model: Any, engine: Any, height: int, width: int, **how: Any) -> Iterator[Case]:
    z, y = latents(model, height, width)
    sections, z_wanted, y_wanted, _ = engine.encode_many([Target(z, y)], lanes=64, **how)[0]
    stream = sections, height, width
    cpu = partial(model.engine.decode_many, [stream])
    decode = partial(engine.decode_many, [stream], **how)
    found = decode()[0][:2]
    note = same(found, [torch.from_numpy(a) for a in cpu()[0][:2]])
    same((z_wanted, y_wanted), found)
    encode = partial(engine.encode_many, [Target(z.to(device()), y.to(device()))], lanes=64, **how)
    encode_on_cpu = partial(model.engine.encode_many, [Target(z.numpy(), y.numpy())])
    runs = {"decode": (decode, cpu), "encode": (encode, encode_on_cpu)}
    for way, name in names.items():
        yield symbol_case(name, *runs[way], y.numel(), CPU, f"{note}; {len(sections[1])} bytes")


def compressai_cases(wanted: Wanted) -> Iterator[Case]:
    """CompressAI's own loop with its network on the same GPU, on a sixteenth of the image: it costs seconds."""
    name = "jahp decode 512x768 persistent vs CompressAI on this GPU"
    if not wanted(name):
        return
    model, engine = device_model()
    z, y = latents(model, 32, 48)
    loops = compressai_loops(y[None, :, :8, :12].float().to(device()) / 64, {})
    if not loops:
        print("\nCompressAI cannot be imported: not compared", file=sys.stderr)
        return
    sections = engine.encode_many([Target(z, y)], driver="persistent", lanes=64)[0][0]
    run = partial(engine.decode_many, [(sections, 32, 48)], driver="persistent")
    found = symbol_case(name, run, waiting(loops["decode"]), y.numel(), "CompressAI", "")
    yield replace(found, peer_work=found.work / 16)
