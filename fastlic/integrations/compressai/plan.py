"""Which module of a CompressAI model is served by what: decided for the whole model before any of it is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn as nn

from fastlic.errors import CodecFileError
from fastlic.integrations.compressai.bfloat16 import why_not
from fastlic.integrations.compressai.contexts import ContextParts, recognise_contexts
from fastlic.integrations.compressai.entropy_models import (
    FastBottleneck,
    FastEntropyModel,
    FastEntropyModelVbr,
    FastGaussian,
)
from fastlic.integrations.compressai.groups import GroupsCoder, IntegerGroupsHyperprior, group_parts, serves
from fastlic.integrations.compressai.integer_transforms import (
    Converter,
    FastIntegerTransform,
    IntegerTransform,
    Refusal,
)
from fastlic.integrations.compressai.integers import IMAGE_STRIDE, Calibration, IntegerCoder, Parts, digest_of
from fastlic.integrations.compressai.latent_codecs import (
    FastBottleneckLatentCodec,
    FastChannelGroupsLatentCodec,
    FastCheckerboardLatentCodec,
    FastContextsLatentCodec,
    FastGaussianLatentCodec,
    FastHyperpriorLatentCodec,
    GaussianBehind,
)
from fastlic.integrations.compressai.layout import hyper_branch
from fastlic.integrations.compressai.looped_groups import (
    IntegerLoopedGroups,
    check_grouped_loop,
    looks_grouped,
    looped_group_parts,
)
from fastlic.integrations.compressai.loops import FastBaseLoops, FastLoops, loops_of
from fastlic.integrations.compressai.mixture import FastGaussianMixture
from fastlic.integrations.compressai.models import FastModel
from fastlic.integrations.compressai.native_models import (
    IntegerHyperprior,
    IntegerModel,
    IntegerVariableModel,
    codec_parts,
    model_parts,
)
from fastlic.integrations.compressai.raster import FastRaster, FastRasterLatentCodec, FastRasterVbr
from fastlic.integrations.compressai.recognised import recognised
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.slices import (
    STRIDE,
    SliceParts,
    check_codec,
    check_loop,
    check_stages,
    codes_slices,
    looks_sliced,
    slice_parts,
)
from fastlic.integrations.compressai.stages import analysis_of, has_stages, synthesis_of
from fastlic.integrations.compressai.swap import is_compiled
from fastlic.integrations.compressai.theirs import (
    GDN,
    ChannelGroupsLatentCodec,
    CheckerboardLatentCodec,
    EntropyBottleneck,
    EntropyBottleneckLatentCodec,
    EntropyBottleneckVbr,
    EntropyModel,
    EntropyModelVbr,
    GaussianConditional,
    GaussianConditionalLatentCodec,
    GaussianMixtureConditional,
    HyperpriorLatentCodec,
    JointAutoregressiveHierarchicalPriors,
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperprior,
    MeanScaleHyperpriorVbr,
    MultiContextCheckerboardLatentCodec,
    RasterScanLatentCodec,
    ScaleHyperprior,
    ScaleHyperpriorVbr,
    unknown_arguments,
)
from fastlic.integrations.compressai.transforms import FastConvolution, FastEnd, FastGDN, FastTransform, FastTransposed


@dataclass(frozen=True)
class Patch:
    """Serves instances of ``base`` whose ``methods`` are still its own.

    Subclasses with methods of their own get ``behind`` in place of ``front``, if there is such: behind those methods.
    """

    part: str
    base: type
    by: str
    methods: tuple[str, ...] = ()
    front: tuple[type, ...] = ()
    back: tuple[type, ...] = ()
    note: str = ""
    behind: tuple[type, ...] = ()


@dataclass(frozen=True)
class Step:
    """One module to specialise; no patch: why not."""

    name: str
    module: nn.Module
    part: str
    by: str
    note: str
    front: tuple[type, ...] = ()
    back: tuple[type, ...] = ()
    coder: IntegerCoder | None = None
    transform: IntegerTransform | None = None
    refusal: Refusal | None = None  # of what was to be a transform of integers
    silent: tuple[nn.Module, ...] = ()  # whose forward hooks do not run any more
    on_device: bool = False  # in Triton kernels
    lacks: str = ""  # why ``backend="triton"`` leaves it on the CPU

    @property
    def replaces(self) -> bool:
        return bool(self.front or self.back)

    def placed(self, settings: Settings) -> Step:
        """This step, if ``backend="triton"`` was asked for, there, or with a note that says why on the CPU."""
        lacks = ""
        if self.coder is not None:
            if lacks := self.coder.device_lacks():
                self.coder.settings = replace(settings, backend="cpp")
        elif self.transform is None:
            if "coder" not in self.by:
                return self
            lacks = "kernels code what has integer networks between stream and latent"
        if not lacks:
            return replace(self, by=f"{self.by}, triton", on_device=True)
        note = "; ".join(note for note in (self.note, f"on the CPU: {lacks}") if note)
        return replace(self, note=note, lacks=lacks)


_RASTER = "CompressAI's floats position by position, array coder"
_CHECKED = "as before, sizes checked"
_KEPT = "keeps its symbols, no decoding while encoding"
# The first that fits a module serves it, so special classes come before general ones.
PATCHES = (
    Patch(
        "raster loops",
        JointAutoregressiveHierarchicalPriorsVbr,
        _RASTER,
        ("_compress_ar", "_decompress_ar"),
        (FastModel, FastRasterVbr),
    ),
    Patch(
        "raster loops",
        JointAutoregressiveHierarchicalPriors,
        _RASTER,
        ("_compress_ar", "_decompress_ar"),
        (FastModel, FastRaster),
    ),
    Patch("hyperprior codec", HyperpriorLatentCodec, _CHECKED, ("decompress",), (FastHyperpriorLatentCodec,)),
    Patch("channel groups", ChannelGroupsLatentCodec, _CHECKED, ("decompress",), (FastChannelGroupsLatentCodec,)),
    Patch("raster latent codec", RasterScanLatentCodec, _RASTER, ("compress", "decompress"), (FastRasterLatentCodec,)),
    Patch(
        "checkerboard codec",
        CheckerboardLatentCodec,
        "one context convolution in place of two",
        ("compress", "decompress", "embed", "unembed"),
        (FastCheckerboardLatentCodec,),
    ),
    Patch(
        "checkerboard of many contexts",
        MultiContextCheckerboardLatentCodec,
        _CHECKED,
        ("decompress",),
        (FastContextsLatentCodec,),
    ),
    Patch(
        "Gaussian mixture",
        GaussianMixtureConditional,
        "CompressAI's floats in pieces, array coder",
        ("compress", "decompress", "_build_cdf", "reshape_entropy_parameters", "quantize"),
        (FastGaussianMixture,),
        note="a row for each symbol, made of floats: CompressAI's streams in both formats",
    ),
    Patch(
        "Gaussian latent codec",
        GaussianConditionalLatentCodec,
        _KEPT,
        ("compress", "decompress"),
        (FastGaussianLatentCodec,),
        behind=(GaussianBehind,),
    ),
    Patch(
        "bottleneck latent codec",
        EntropyBottleneckLatentCodec,
        _KEPT,
        ("compress", "decompress"),
        (FastBottleneckLatentCodec,),
    ),
    Patch(
        "Gaussian entropy model",
        GaussianConditional,
        "array coder, one search for all indexes",
        ("build_indexes", "quantize"),
        (FastGaussian,),
        (FastEntropyModel,),
    ),
    Patch(
        "entropy bottleneck", EntropyBottleneck, "array coder", ("quantize",), (FastBottleneck,), (FastEntropyModel,)
    ),
    Patch(
        "entropy bottleneck",
        EntropyBottleneckVbr,
        "array coder",
        ("quantize",),
        (FastBottleneck,),
        (FastEntropyModelVbr,),
    ),
    Patch("entropy model", EntropyModel, "array coder", ("quantize",), (), (FastEntropyModel,)),
    Patch("entropy model", EntropyModelVbr, "array coder", ("quantize",), (), (FastEntropyModelVbr,)),
)


def overridden(module: nn.Module, patch: Patch) -> list[str]:
    """Methods that a subclass, or the instance itself, has replaced with its own."""
    own = vars(module)
    return [
        name
        for name in patch.methods
        if name in own or getattr(type(module), name, None) is not getattr(patch.base, name, None)
    ]


def plan(model: nn.Module, settings: Settings, calibration: Calibration) -> Iterator[Step]:
    """Every module of ``model`` that is known, with what serves it or why nothing does.

    Raises:
        ModelMismatchError: ``calibration`` is the saved conversion of other weights.
    """
    for step in _plan(model, settings, calibration):
        yield step.placed(settings) if settings.backend == "triton" else step


def _plan(model: nn.Module, settings: Settings, calibration: Calibration) -> Iterator[Step]:
    entropy = list(_entropy(model, settings, calibration))
    yield from entropy
    yield from _loops(model, settings, entropy)
    # Whether the entropy path computes hyper latents itself.
    analysed = any(getattr(getattr(step.coder, "integers", None), "analyses", False) for step in entropy)
    if settings.transforms != "integer":
        yield from _transforms(model, settings, ("g_a", "g_s"))
    else:
        own = any(step.module is model and step.coder is not None and step.replaces for step in entropy)
        yield from _integer_transforms(model, settings, calibration, analysed, own)


def _entropy(model: nn.Module, settings: Settings, calibration: Calibration) -> Iterator[Step]:
    covered: list[str] = []  # names of modules whose children the integer path stands in for
    for name, module in model.named_modules():
        if any(name.startswith(prefix) for prefix in covered):
            continue
        step = None
        if settings.format == "native":
            step = _integers(model, name, module, settings, calibration)
            if step is not None and step.replaces:
                covered.append(f"{name}." if name else "")
                yield step
                if isinstance(module, HyperpriorLatentCodec):
                    continue
                return
        refused, step = step, _patched(name, module, settings)
        if refused is not None and (step is None or step.by == _CHECKED):
            yield refused
            refused = None
        if step is None and module is model and _codes(module):
            step = Step(name, module, "model", "no gradients recorded", "", (FastModel,))
        if step is not None:
            yield replace(step, note=step.note or (refused.note if refused is not None else ""))


LOOPS = "own loops"
_CODED = "CompressAI's bytes in both formats"


def _loops(model: nn.Module, settings: Settings, entropy: list[Step]) -> Iterator[Step]:
    """Modules whose own methods call compressai.ans, but for what ``entropy`` replaces as a whole or by name."""
    whole = [f"{step.name}." if step.name else "" for step in entropy if step.coder is not None and step.replaces]
    for name, module in model.named_modules():
        if any(f"{name}.".startswith(prefix) for prefix in whole):
            continue
        fronts = [cls for step in entropy if step.module is module for cls in step.front if cls is not FastModel]
        found = loops_of(module, {method for cls in fronts for method in vars(cls)})
        if found.made and (odd := _odd_precision(module, name)):
            yield Step(name, module, LOOPS, "", odd)
        elif found.made and settings.backend == "reference":
            yield Step(name, module, LOOPS, "", f"backend 'reference' has none: {', '.join(found.made)}")
        elif found.made:
            note = f"{', '.join(found.made)}: {_CODED}"
            yield Step(name, module, LOOPS, "array coder for compressai.ans", note, (FastLoops,), (FastBaseLoops,))
        if found.left:
            yield Step(name, module, LOOPS, "", f"compressai.ans as before: {'; '.join(found.left)}")


TRANSFORM = "transform"  # how the parts of such steps begin
BFLOAT16 = "bfloat16, ends float32"
# Exact types: a subclass has its reasons.
_WHERE = "float32 on the CPU; else as before"
_KINDS: dict[type, tuple[str, str, tuple[type, ...]]] = {
    GDN: ("in one pass", _WHERE, (FastGDN,)),
    nn.Conv2d: ("channels-last", _WHERE, (FastConvolution,)),
    nn.ConvTranspose2d: ("channels-last", _WHERE, (FastTransposed,)),
}


def _integer_transforms(
    model: Any, settings: Settings, calibration: Calibration, analysed: bool, own: bool
) -> Iterator[Step]:
    """g_a, h_a and g_s as integers; those that have no integer form as with exact transforms, and why.

    Args:
        analysed: whether the entropy path computes hyper latents itself.
        own: whether the model's ``compress`` and ``decompress`` are fastlic's, which run stages as one.
    """
    magnitudes = isinstance(model, ScaleHyperprior) and not isinstance(model, MeanScaleHyperprior)
    converter = Converter(model, calibration, magnitudes, STRIDE if _sliced(model) else IMAGE_STRIDE)
    named = [(name, module, name) for name, module in model.named_modules()]
    if has_stages(model):  # lists of stages stand for all of them: integers are kept there
        named = [("g_a", analysis_of(model), "layers"), *named, ("g_s", synthesis_of(model), "syn_layers")]
    for name, module, path in named:
        kind = name.rpartition(".")[2]
        if name not in ("g_a", "g_s") and not (kind == "h_a" and analysis_of(model) is not None):
            continue
        part = f"{TRANSFORM} {name}"
        if path != name and not own:
            reason = "floats, as the model's own methods call its stages one by one: no network stands in for them"
            yield from _with_reason(list(_transforms(model, settings, (name,))), reason)
            continue
        if kind == "h_a" and analysed:
            yield Step(name, module, part, "", "the entropy path has its integers")
            continue
        try:
            if kind == "h_a" and has_stages(model) and not own:  # nothing has held its stages against the model yet
                check_stages(model, module)
            made = converter.convert(name, module).watch(module)
        except CodecFileError:  # what was asked for by name
            raise
        except ValueError as error:
            reason = f"floats, as it has no integer form: {error}"
            exact = list(_transforms(model, settings, (name,))) if kind != "h_a" else []
            refusal = Refusal(name, digest_of(module.parameters()), str(error))
            yield from _with_reason(exact or [Step(name, module, part, "", "")], reason, refusal)
            continue
        note = f"conversion {made.fingerprint().hex()}, {made.origin}"
        silent = made.snapshot.silent([(name, module)]) if made.snapshot else ()
        place = module if path == name else model.get_submodule(path)
        yield Step(path, place, part, "integers", note, (FastIntegerTransform,), transform=made, silent=silent)


def _with_reason(steps: list[Step], reason: str, refusal: Refusal | None = None) -> Iterator[Step]:
    """These steps, the first of which says why they are no integers."""
    for k, step in enumerate(steps):
        note = "; ".join(note for note in (reason, step.note) if note)
        yield step if k else replace(step, note=note, refusal=refusal)


def _transforms(model: Any, settings: Settings, names: tuple[str, ...]) -> Iterator[Step]:
    """The layers of g_a and g_s, as far as last bits there do not decide over symbols."""
    for name, path, transform, ends in _networks(model):
        if name not in names:
            continue
        part = f"{TRANSFORM} {name}"
        fast, refused = settings.transforms == "fast" and not ends, ""
        if settings.transforms == "fast" and (refused := why_not(next(transform.parameters(), torch.empty(0)))):
            fast = False
        if name == "g_a" and settings.format == "compressai" and (settings.transforms != "fast" or refused):
            yield Step(path, transform, part, "", "last bits of the latent decide over symbols, and so over bytes")
            continue
        if is_compiled(transform):
            yield Step(name, transform, part, "", "it is compiled: accelerate first, then torch.compile")
            continue
        inside = {id(module) for module in transform.modules()}
        shared = {id(m) for at, m in model.named_modules(remove_duplicate=False) if not _within(at, path)} & inside
        if shared or "forward" in vars(transform) or type(transform) in _KINDS:
            yield Step(path, transform, part, "", "other parts of the model use it too, or it is no network of layers")
            continue
        layers = []
        for at, module in transform.named_modules(prefix=path):
            if type(module) in _KINDS:
                if "forward" not in vars(module):
                    layers.append(Step(at, module, part, *_KINDS[type(module)]))
            elif at != path and (found := recognised(module)):
                layers.append(Step(at, module, part, found[0], _WHERE, found[1]))
        if layers:
            by, note = (BFLOAT16, "") if fast else ("channels-last", refused or _WHERE)
            yield Step(path, transform, part, by, note, (FastEnd if ends else FastTransform,))
            yield from layers


def _sliced(model: Any) -> bool:
    codec = getattr(getattr(model, "latent_codec", None), "latent_codec", {})
    return looks_sliced(model) or ("y" in codec and codes_slices(codec["y"]))


def _networks(model: Any) -> Iterator[tuple[str, str, nn.Module, bool]]:
    """Which transform, path, module of what makes up g_a and g_s, and whether it is to stay float32 whole."""
    for name in ("g_a", "g_s"):
        if isinstance(module := getattr(model, name, None), nn.Module):
            yield name, name, module, False
    if has_stages(model):
        yield "g_a", "patch_embed", model.patch_embed, True
        for name, list_name in (("g_a", "layers"), ("g_s", "syn_layers")):
            stages = list(getattr(model, list_name).children())
            for i, module in enumerate(stages):
                yield name, f"{list_name}.{i}", module, name == "g_a" and i == len(stages) - 1
        yield "g_s", "end_conv", model.end_conv, False


def _within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


_STOCK = (ScaleHyperprior, MeanScaleHyperprior, JointAutoregressiveHierarchicalPriors)
_STOCK_VARIABLE = (ScaleHyperpriorVbr, MeanScaleHyperpriorVbr, JointAutoregressiveHierarchicalPriorsVbr)


def _integers(
    model: nn.Module, name: str, module: nn.Module, settings: Settings, calibration: Calibration
) -> Step | None:
    """A step onto the integer path; one that replaces nothing says why not; None for what has no such path."""
    part = "entropy path"
    parts: Parts
    front: tuple[type, ...]
    kind: type[IntegerCoder] = IntegerCoder
    try:
        if isinstance(module, ScaleHyperprior):
            variable = isinstance(module, ScaleHyperpriorVbr)
            own = {type(module).compress, type(module).decompress} - {
                getattr(cls, method, None)
                for cls in (_STOCK_VARIABLE if variable else _STOCK)
                for method in ("compress", "decompress")
            }
            if own or {"compress", "decompress"} & set(vars(module)):
                raise ValueError(f"{type(module).__name__} has its own compress or decompress")
            parts, g_a = model_parts(module), module.g_a
            front = (IntegerVariableModel if variable else IntegerModel,)
        elif isinstance(module, HyperpriorLatentCodec):
            if (g_a := analysis_of(model)) is None:
                raise ValueError("the model has no g_a, whose latents ranges are measured on")
            if overridden(module, Patch(part, HyperpriorLatentCodec, "", ("compress", "decompress"))):
                raise ValueError(f"{type(module).__name__} has its own compress or decompress")
            if has_stages(model):
                check_stages(model, hyper_branch(module).h_a)
            if serves(module.latent_codec["y"]):
                parts, front, kind = group_parts(module), (IntegerGroupsHyperprior,), GroupsCoder
            else:
                parts, front = codec_parts(module), (IntegerHyperprior,)
                if isinstance(parts, SliceParts):
                    check_codec(module, g_a)
                elif isinstance(parts, ContextParts):
                    parts = recognise_contexts(module, g_a)
        elif module is model and _codes(module) and looks_grouped(module):
            parts, g_a, kind = looped_group_parts(module), module.g_a, GroupsCoder  # type: ignore[assignment]
            front = (IntegerLoopedGroups,)
            check_grouped_loop(module)
        elif module is model and _codes(module) and looks_sliced(module):
            parts, g_a, front = slice_parts(module), analysis_of(module), (IntegerModel,)
            check_loop(module)
        else:
            return None
        coder = kind.convert(parts, g_a, calibration, settings)
        _ = coder.integers.engine  # proves every bound, now and not at the first image
    except CodecFileError:  # what was asked for by name
        raise
    except ValueError as error:
        return Step(name, module, part, "", f"floats, as it has no integer form: {error}")
    if isinstance(parts, SliceParts):
        by = f"integers, {parts.count} slices"
    elif isinstance(parts, ContextParts):
        by = f"integers, {parts.slices} slices of {parts.family.upper()}"
    elif kind is GroupsCoder:
        by = "integers, board engine"
    else:
        by = "integers, wavefront engine" if coder.integers.context is not None else "integers, one-pass engine"
    note = f"conversion {coder.integers.fingerprint().hex()}"
    silent = coder.snapshot.silent(parts.named) if coder.snapshot else ()
    return Step(name, module, part, by, note, front, (), coder, silent=silent)


def _patched(name: str, module: nn.Module, settings: Settings) -> Step | None:
    for patch in PATCHES:
        if not isinstance(module, patch.base):
            continue
        # Native tables are of any precision; in CompressAI's streams the array coder has that of its default alone.
        theirs = settings.format == "compressai" or patch.base in _THEIR_STREAMS
        if theirs and (odd := _odd_precision(module, name)):
            return Step(name, module, patch.part, "", odd)
        changed = overridden(module, patch)
        if changed and patch.behind and not set(patch.methods) & set(vars(module)):
            note = f"behind {type(module).__name__}'s own {', '.join(changed)}"
            return Step(name, module, patch.part, patch.by, note, (), patch.behind)
        if changed:
            return Step(name, module, patch.part, "", f"{type(module).__name__} has its own {', '.join(changed)}")
        if patch.back and (arguments := unknown_arguments()):
            return Step(name, module, patch.part, "", f"its compress and decompress have arguments more: {arguments}")
        return Step(name, module, patch.part, patch.by, patch.note, patch.front, patch.back)
    return None


_PRECISION = 16  # bits of what tables of CompressAI's streams count to
_THEIR_STREAMS = (
    JointAutoregressiveHierarchicalPriors,
    JointAutoregressiveHierarchicalPriorsVbr,
    RasterScanLatentCodec,
    GaussianMixtureConditional,
)


def _odd_precision(module: nn.Module, name: str) -> str:
    """Which entropy model in a module has tables that do not count to 2^16, in words; "" if none has."""
    for path, own in module.named_modules(prefix=name):
        bits = getattr(own, "entropy_coder_precision", _PRECISION)
        if isinstance(own, (EntropyModel, EntropyModelVbr)) and bits != _PRECISION:
            return f"entropy_coder_precision of {path or 'the model'} is {bits}; the array coder has {_PRECISION}"
    return ""


def _codes(module: Any) -> bool:
    return callable(getattr(module, "compress", None)) and callable(getattr(module, "decompress", None))
