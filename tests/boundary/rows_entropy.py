"""One row for each public function, class and method of ``fastlic.entropy`` (rows.py)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import values
from values import F32, I32, Call, H, W, arrays_of
from values_library import (
    I64,
    MLIC,
    as_coded,
    bottleneck,
    float_latents,
    group_networks,
    integers,
    jahp,
    maps,
    mlic,
    networks,
    picture,
    requantiser,
    seen,
    slice_networks,
    slices,
    target,
)

from fastlic.entropy import (
    arrays,
    code_context,
    coded,
    codes,
    convert,
    convert_variable,
    fingerprint,
    fitting,
    float_path,
    model,
    passes,
    rate,
    scales,
    stacked,
    variable,
    wavefront,
    zones,
)
from fastlic.entropy import calibration as entropy_calibration
from fastlic.entropy.channel_slices import convert as slices_convert
from fastlic.entropy.channel_slices import model as slices_model
from fastlic.entropy.groups import convert as groups_convert
from fastlic.entropy.groups import model as groups_model
from fastlic.entropy.groups import schedule as groups_schedule
from fastlic.entropy.mlic import convert as mlic_convert
from fastlic.entropy.mlic import model as mlic_model
from fastlic.entropy.mlic import rate as mlic_rate
from fastlic.entropy.mlic import schedule as mlic_schedule
from fastlic.models.gain import Gain
from fastlic.models.mcquic.context import CodeContext


def longs(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value).long() for key, value in values.z_and_y(name).items()}


def taken(run: Callable[..., Any]) -> Callable[..., Any]:
    """The first items of what a generator yields."""
    return lambda **arguments: [type(item) for item in itertools.islice(run(**arguments), 1)]


@cache
def variable_model() -> variable.VariableRateModel:
    base = integers("jahp")
    step = variable.HyperStep(0.5, base.z_tables, base.z_median)
    layer = (np.full((1, 2), 0.01), np.zeros(1))
    shift = np.ones((2, 2 * base.latent_channels))
    return variable.VariableRateModel(base, np.array([0.5, 2.0]), (step, step), shift, (layer,))


@cache
def code_tables() -> codes.CodeTables:
    shares = [np.random.default_rng(level).random((2, 3)) + 0.1 for level in range(2)]
    return codes.CodeTables.from_shares(shares, [np.ones((2, 3, 2), F32)] * 2)


@cache
def code_context_float() -> CodeContext:
    torch.manual_seed(1)
    return CodeContext(2, 3, 5, 7).eval()


def context_rows() -> torch.Tensor:
    return code_context_float().rows(torch.from_numpy(values.words()).long()[None])


@cache
def variable_networks() -> convert_variable.VariableNetworks:
    torch.manual_seed(1)
    offsets = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    return convert_variable.VariableNetworks(networks(), (0.5, 2.0), (1.0, 0.5), nn.Linear(1, 12), offsets)


def symbols_of_rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 3, 90).astype(np.uint8), rng.integers(-4, 5, 90)


def joined(name: str, key: str) -> torch.Tensor:
    weight = arrays_of(name)[f"layers.{key}.weight"]
    return torch.ones(weight.shape[1], H, W, dtype=I64)


ENTROPY: dict[str, Callable[[], Call]] = {
    "arrays.below": lambda: Call(arrays.below, {"arrays": {"a.b": np.zeros(1)}, "prefix": "a."}),
    "arrays.tables_of": lambda: Call(arrays.tables_of, {"arrays": dict(arrays_of("jahp")), "name": "z"}),
    "arrays.names_of": lambda: Call(
        arrays.names_of, {"arrays": {"layers.a.geometry": np.zeros(1)}, "kind": "layers", "part": "geometry"}
    ),
    "calibration.latents_of": lambda: Call(
        taken(entropy_calibration.latents_of), {"model": jahp(), "images": [picture()]}
    ),
    "calibration.bottleneck_tables": lambda: Call(
        entropy_calibration.bottleneck_tables, {"bottleneck": bottleneck(), "median": np.zeros(4, I32), "step": 0.5}
    ),
    "calibration.hyper_medians": lambda: Call(
        entropy_calibration.hyper_medians, {"bottleneck": bottleneck(), "step": 0.5}
    ),
    "calibration.entry": lambda: Call(entropy_calibration.entry, {"scale": np.full(4, 0.3)}),
    "calibration.head_units": lambda: Call(entropy_calibration.head_units, {"channels": 4}),
    "calibration.plain_tables": lambda: Call(entropy_calibration.plain_tables, {"bottleneck": bottleneck()}),
    "calibration.coded_latents": lambda: Call(
        taken(entropy_calibration.coded_latents),
        {
            **{"model": integers("groups"), "hyper_analysis": lambda y: y[:, :3, ::4, ::4]},
            "latents": [(torch.ones(1, 10, 4, 4), 0.5)],
        },
    ),
    "code_context.IntegerCodeContext": lambda: Call(
        code_context.IntegerCodeContext,
        {f.name: getattr(values.code_model(), f.name) for f in dataclasses.fields(code_context.IntegerCodeContext)},
    ),
    "code_context.IntegerCodeContext.from_float": lambda: Call(
        code_context.IntegerCodeContext.from_float, {"context": code_context_float(), "rows": context_rows()}
    ),
    "code_context.IntegerCodeContext.to_arrays": lambda: Call(values.code_model().to_arrays, {}),
    "code_context.IntegerCodeContext.from_arrays": lambda: Call(
        code_context.IntegerCodeContext.from_arrays, {"arrays": values.code_model().to_arrays()}
    ),
    "coded.code": lambda: Call(
        coded.code, {"schedule": integers("jahp").schedule(H, W), **longs("jahp"), "zones": values.zones()}
    ),
    "coded.joined": lambda: Call(
        coded.joined, {"passes": [(0, values.indexes(), values.symbols()), (1, values.indexes(), values.symbols())]}
    ),
    "coded.coded_by_channel": lambda: Call(coded.coded_by_channel, {"z": maps(4), "medians": np.zeros(4, np.int32)}),
    "codes.CodeTables": lambda: Call(
        codes.CodeTables, {"tables": code_tables().tables, "words": code_tables().words, "context": values.code_model()}
    ),
    "codes.CodeTables.from_shares": lambda: Call(
        codes.CodeTables.from_shares,
        {"shares": [np.ones((2, 3)), np.ones((2, 4))], "codebooks": [np.ones((2, 3, 5), F32)]},
    ),
    "codes.CodeTables.shares": lambda: Call(code_tables().shares, {}),
    "codes.CodeTables.encode": lambda: Call(
        code_tables().encode, {"level": 1, "codes": values.words(), "backend": "cpp"}
    ),
    "codes.CodeTables.decode": lambda: Call(
        code_tables().decode,
        {"level": 1, "data": code_tables().encode(1, values.words()), "height": 4, "width": 17, "backend": "cpp"},
    ),
    "codes.CodeTables.encode_many": lambda: Call(
        code_tables().encode_many, {"level": 1, "codes": [values.words()] * 2, "backend": "cpp", "threads": 2}
    ),
    "codes.CodeTables.decode_many": lambda: Call(
        code_tables().decode_many,
        {
            **{"level": 1, "streams": [(code_tables().encode(1, values.words()), 4, 17)] * 2},
            **{"backend": "cpp", "threads": 2},
        },
    ),
    "codes.CodeTables.bits": lambda: Call(code_tables().bits, {"level": 1, "codes": values.words()}),
    "codes.CodeTables.to_arrays": lambda: Call(code_tables().to_arrays, {}),
    "codes.CodeTables.from_arrays": lambda: Call(codes.CodeTables.from_arrays, {"arrays": code_tables().to_arrays()}),
    "codes.CodeTables.fingerprint": lambda: Call(code_tables().fingerprint, {}),
    "convert.Rate.round": lambda: Call(
        convert.Rate(2.0).round,
        {
            **{"y": float_latents()[0], "means": float_latents()[0] / 3},
            **{"scales": float_latents()[0].abs() + 0.2, "worth": 0.5},
        },
    ),
    "convert.networks_of": lambda: Call(convert.networks_of, {"model": jahp()}),
    "convert.calibrate": lambda: Call(
        convert.calibrate,
        {"networks": networks(), "latents": float_latents(), "rates": [convert.Rate()], "worths": [0.5]},
    ),
    "convert.convert": lambda: Call(convert.convert, {"model": jahp(), "images": [picture()]}),
    "convert.convert_networks": lambda: Call(
        convert.convert_networks, {"networks": networks(), "latents": float_latents(), "worths": [0.5]}
    ),
    "convert.quantise_networks": lambda: Call(
        convert.quantise_networks, {"networks": networks(), "ranges": seen(), "m": 6, "shifts": np.ones(12)}
    ),
    "convert_variable.VariableNetworks.rates": lambda: Call(variable_networks().rates, {}),
    "convert_variable.convert_variable": lambda: Call(
        convert_variable.convert_variable, {"variable": variable_networks(), "latents": float_latents()}
    ),
    "convert_variable.linear_layers": lambda: Call(
        convert_variable.linear_layers, {"network": variable_networks().offsets}
    ),
    "fingerprint.of_arrays": lambda: Call(fingerprint.of_arrays, {"arrays": {"a": np.zeros(3, I32)}}),
    "fingerprint.of_codec": lambda: Call(
        fingerprint.of_codec,
        {
            **{"family": "a", "config": {"N": 3}, "integers": {"a": np.zeros(3, I32)}},
            "floats": {"b": np.zeros((2, 2), F32)},
        },
    ),
    "fitting.coded_symbols": lambda: Call(
        fitting.coded_symbols, {"model": integers("jahp"), **longs("jahp"), "zones": values.zones()}
    ),
    "fitting.fit_tables": lambda: Call(
        fitting.fit_tables, {"levels": np.array([0.3, 1.0, 2.0]), "coded": [symbols_of_rows()]}
    ),
    "fitting.choose_tables": lambda: Call(
        fitting.choose_tables, {"levels": np.array([0.3, 1.0, 2.0]), "coded": [symbols_of_rows()] * 3, "each": 1}
    ),
    "fitting.symbols_of": lambda: Call(fitting.symbols_of, {"model": integers("jahp"), "target": target("jahp")}),
    "float_path.float_path": lambda: Call(float_path.float_path, float_path_arguments()),
    "channel_slices.convert.convert_slices": lambda: Call(
        slices_convert.convert_slices, {"networks": slice_networks(), "latents": float_latents()}
    ),
    "channel_slices.convert.SliceNetworks.decoded": lambda: Call(
        slice_networks().decoded,
        {"y": float_latents()[0], "run": lambda name, x: slice_networks().graphs[name].run(x)},
    ),
    "channel_slices.model.IntegerChannelSlices.known_channels": lambda: Call(slices().known_channels, {"groups": 1}),
    "channel_slices.model.IntegerChannelSlices.on_engines": lambda: Call(
        slices().on_engines, {"threads": 1, "way": "cpp"}
    ),
    "channel_slices.model.IntegerChannelSlices.run": lambda: Call(slices().run, {"name": "mean.0", "x": maps(6)}),
    "channel_slices.model.IntegerChannelSlices.run (engines)": lambda: Call(
        slices().on_engines(1).run, {"name": "mean.0", "x": maps(6)}
    ),
    "channel_slices.model.IntegerChannelSlices.schedule": lambda: Call(
        taken(slices().schedule), {"height": H, "width": W}
    ),
    "channel_slices.model.IntegerChannelSlices.to_arrays": lambda: Call(slices().to_arrays, {}),
    "channel_slices.model.IntegerChannelSlices.from_arrays": lambda: Call(
        slices_model.IntegerChannelSlices.from_arrays, {"arrays": slices().to_arrays()}
    ),
    "channel_slices.model.IntegerChannelSlices.checked": lambda: Call(slices().checked, {}),
    "groups.convert.decoded": lambda: Call(
        groups_convert.decoded, {"networks": group_networks(), "y": float_latents()[0]}
    ),
    "groups.convert.convert_groups": lambda: Call(
        groups_convert.convert_groups, {"networks": group_networks(), "latents": float_latents()}
    ),
    "groups.model.IntegerGroups.schedule": lambda: Call(taken(integers("groups").schedule), {"height": H, "width": W}),
    "groups.model.IntegerGroups.counts": lambda: Call(integers("groups").counts, {"height": H, "width": W}),
    "groups.model.IntegerGroups.known_channels": lambda: Call(integers("groups").known_channels, {"groups": 1}),
    "groups.model.IntegerGroups.first_channel": lambda: Call(integers("groups").first_channel, {"index": 1}),
    "groups.model.IntegerGroups.hyper_analysis": lambda: Call(integers("groups").hyper_analysis, {"y": maps(10, 4, 8)}),
    "groups.model.IntegerGroups.latent_input": lambda: Call(
        integers("groups").latent_input, {"index": 1, "latent": maps(5)}
    ),
    "groups.model.IntegerGroups.channel": lambda: Call(integers("groups").channel, {"index": 1, "decoded": [maps(3)]}),
    "groups.model.IntegerGroups.context": lambda: Call(integers("groups").context, {"index": 1, "current": maps(5)}),
    "groups.model.IntegerGroups.context_channels": lambda: Call(integers("groups").context_channels, {"index": 1}),
    "groups.model.IntegerGroups.parameters": lambda: Call(
        integers("groups").parameters, {"index": 1, "joined": joined("groups", "parameters.1.0")}
    ),
    "groups.model.IntegerGroups.to_arrays": lambda: Call(integers("groups").to_arrays, {}),
    "groups.model.IntegerGroups.from_arrays": lambda: Call(
        groups_model.IntegerGroups.from_arrays, {"arrays": dict(arrays_of("groups"))}
    ),
    "groups.schedule.groups_schedule": lambda: Call(
        taken(groups_schedule.groups_schedule), {"model": integers("groups"), "height": H, "width": W}
    ),
    "mlic.convert.convert": lambda: Call(mlic_convert.convert, {"model": mlic(), "images": [picture()]}),
    "mlic.convert.convert_latents": lambda: Call(
        mlic_convert.convert_latents,
        {"model": mlic(), "latents": [mlic().g_a(picture()[None]).detach()], "worths": [0.5]},
    ),
    "mlic.model.IntegerMLIC.latent_input": lambda: Call(integers(MLIC).latent_input, {"index": 1, "latent": maps(4)}),
    "mlic.model.IntegerMLIC.channel": lambda: Call(integers(MLIC).channel, {"index": 1, "decoded": maps(4)}),
    "mlic.model.IntegerMLIC.early_context": lambda: Call(integers("mlic_early").early_context, {"current": maps(4)}),
    "mlic.model.IntegerMLIC.inter": lambda: Call(integers(MLIC).inter, {"index": 1, "decoded": maps(4)}),
    "mlic.model.IntegerMLIC.inter (softmax)": lambda: Call(
        integers("mlic_plus").inter, {"index": 1, "decoded": maps(4)}
    ),
    "mlic.model.IntegerMLIC.intra": lambda: Call(
        integers(MLIC).intra, {"index": 1, "previous": maps(4), "current": maps(4)}
    ),
    "mlic.model.IntegerMLIC.local": lambda: Call(
        integers(MLIC).local, {"index": 1, "latent": maps(4), "current": maps(4)}
    ),
    "mlic.model.IntegerMLIC.parameters": lambda: Call(
        integers(MLIC).parameters,
        {"which": "a", "index": 1, "joined": joined(MLIC, "parameters.a.1.0").flatten(1).T},
    ),
    "mlic.model.IntegerMLIC.residue": lambda: Call(
        integers(MLIC).residue, {"which": "a", "index": 1, "joined": joined(MLIC, "residual.a.1.0")}
    ),
    "mlic.model.IntegerMLIC.to_arrays": lambda: Call(integers(MLIC).to_arrays, {}),
    "mlic.model.IntegerMLIC.from_arrays": lambda: Call(
        mlic_model.IntegerMLIC.from_arrays, {"arrays": dict(arrays_of(MLIC))}
    ),
    "mlic.rate.float_bits": lambda: Call(
        mlic_rate.float_bits, {"network": mlic(), "model": integers(MLIC), "latents": as_coded(MLIC)[1]}
    ),
    "mlic.schedule.mlic_schedule": lambda: Call(
        taken(mlic_schedule.mlic_schedule), {"model": integers(MLIC), "height": H, "width": W}
    ),
    "mlic.model.IntegerMLIC.schedule": lambda: Call(taken(integers(MLIC).schedule), {"height": H, "width": W}),
    "mlic.model.IntegerMLIC.known_channels": lambda: Call(integers(MLIC).known_channels, {"groups": 1}),
    "model.IntegerEntropyModel.vary": lambda: Call(integers("jahp").vary, {"z_median": integers("jahp").z_median}),
    "model.IntegerEntropyModel.hyper_features": lambda: Call(
        integers("jahp").hyper_features, {"z": longs("jahp")["z"], "height": H, "width": W}
    ),
    "model.IntegerEntropyModel.reconstruct": lambda: Call(
        dataclasses.replace(integers("jahp"), offsets=np.arange(64, dtype=I32)).reconstruct,
        {"symbols": maps(3), "means": maps(3), "indexes": torch.ones(3, H, W, dtype=torch.uint8)},
    ),
    "model.IntegerEntropyModel.to_arrays": lambda: Call(integers("jahp").to_arrays, {}),
    "model.IntegerEntropyModel.from_arrays": lambda: Call(
        model.IntegerEntropyModel.from_arrays, {"arrays": dict(arrays_of("jahp"))}
    ),
    "model.IntegerEntropyModel.schedule": lambda: Call(taken(integers("jahp").schedule), {"height": H, "width": W}),
    "passes.Latents.named": lambda: Call(jahp_latents().named, {}),
    "passes.drive": lambda: Call(
        passes.drive, {"schedule": integers("jahp").schedule(H, W), "answer": lambda step: step.indexes.long()}
    ),
    "passes.hyper_size": lambda: Call(passes.hyper_size, {"height": H, "width": W}),
    "passes.hyper_pass": lambda: Call(taken(passes.hyper_pass), {"channels": 4, "height": H, "width": W}),
    "passes.LatentModel.from_arrays": lambda: Call(
        type(integers("jahp")).from_arrays, {"arrays": dict(arrays_of("jahp"))}
    ),
    "passes.LatentModel.schedule": lambda: Call(taken(integers("jahp").schedule), {"height": H, "width": W}),
    "passes.LatentModel.to_arrays": lambda: Call(integers("jahp").to_arrays, {}),
    "passes.LatentModel.counts": lambda: Call(integers("jahp").counts, {"height": H, "width": W}),
    "passes.LatentModel.known_channels": lambda: Call(integers("jahp").known_channels, {"groups": 1}),
    "passes.LatentModel.scale_indexes": lambda: Call(integers("groups").scale_indexes, {"scales": maps(3)}),
    "passes.LatentModel.scale_indexes (slices)": lambda: Call(integers(MLIC).scale_indexes, {"scales": maps(3)}),
    "passes.LatentModel.fingerprint": lambda: Call(integers("jahp").fingerprint, {}),
    "passes.LatentModel.on_engines": lambda: Call(integers("jahp").on_engines, {"threads": 1, "way": "cpp"}),
    "passes.LatentModel.hyper_analysis": lambda: Call(integers("groups").hyper_analysis, {"y": maps(10, 4, 8)}),
    "rate.bits_of": lambda: Call(rate.bits_of, {"probabilities": torch.full((3,), 0.5)}),
    "rate.float_bits": lambda: Call(rate.float_bits, {"model": jahp(), "latents": jahp_latents()}),
    "rate.replay": lambda: Call(
        rate.replay, {"model": integers("jahp"), "latents": as_coded("jahp")[1], "see": lambda step, symbols: None}
    ),
    "rate.table_bits": lambda: Call(
        rate.table_bits,
        {"model": integers(MLIC), "latents": as_coded(MLIC)[1], "tables": integers(MLIC).y_tables},
    ),
    "rate.coded_bits": lambda: Call(
        rate.coded_bits, {"tables": values.cdf_tables(), "indexes": values.indexes(), "symbols": values.symbols()}
    ),
    "scales.scale_levels": lambda: Call(scales.scale_levels, {}),
    "scales.scale_thresholds": lambda: Call(scales.scale_thresholds, {"levels": scales.scale_levels()}),
    "stacked.StackedModel.stack": lambda: Call(integers("groups").stack, {"name": "hyper", "x": maps(3, 1, 2)}),
    "stacked.StackedModel.stack (slices)": lambda: Call(integers(MLIC).stack, {"name": "hyper", "x": maps(3, 1, 2)}),
    "stacked.StackedModel.hyper_features": lambda: Call(
        integers("groups").hyper_features, {"z": maps(3, 1, 2), "height": H, "width": W}
    ),
    "stacked.StackedModel.channels_input": lambda: Call(
        integers("groups").channels_input, {"first": 1, "latent": maps(5)}
    ),
    "stacked.StackedModel.stored": lambda: Call(integers("groups").stored, {}),
    "stacked.StackedModel.fields_of": lambda: Call(
        stacked.StackedModel.fields_of, {"arrays": dict(arrays_of("groups"))}
    ),
    "variable.evaluate": lambda: Call(
        variable.evaluate, {"layers": variable_model().offsets, "inputs": [np.ones(4), np.ones(4)]}
    ),
    "variable.VariableRateModel.hyper_step": lambda: Call(variable_model().hyper_step, {"gain": 1.5}),
    "variable.VariableRateModel.at": lambda: Call(variable_model().at, {"gain": 1.5, "stepped": True, "offset": True}),
    "variable.VariableRateModel.to_arrays": lambda: Call(variable_model().to_arrays, {}),
    "variable.VariableRateModel.from_arrays": lambda: Call(
        variable.VariableRateModel.from_arrays, {"arrays": variable_model().to_arrays()}
    ),
    "variable.VariableRateModel.fingerprint": lambda: Call(variable_model().fingerprint, {}),
    "variable.scaled": lambda: Call(variable.scaled, {"requantiser": requantiser(), "factor": 0.5}),
    "wavefront.steps": lambda: Call(taken(wavefront.steps), {"height": H, "width": W}),
    "wavefront.wavefront_schedule": lambda: Call(
        taken(wavefront.wavefront_schedule), {"model": integers("jahp"), "height": H, "width": W}
    ),
    "zones.worth_at": lambda: Call(zones.worth_at, {"gain": gain(), "quality": 2.0, "factor": 0.5}),
    "zones.zones_for": lambda: Call(zones.zones_for, {"worth": 0.5}),
    "zones.looked_up": lambda: Call(
        zones.looked_up, {"zones": values.zones(), "indexes": torch.ones(3, dtype=torch.uint8)}
    ),
}


def float_path_arguments() -> dict[str, Any]:
    z = torch.randn(4, 1, 1, generator=torch.Generator().manual_seed(3)) * 3
    return {"model": jahp(), "z": z, "y": float_latents()[0][0], "worth": 0.5}


def jahp_latents() -> passes.Latents:
    return passes.Latents(maps(4, 1, 1), maps(6, 4, 4))


@cache
def gain() -> Gain:
    return jahp().gain
