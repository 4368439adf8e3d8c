"""The rows: one for each entry of the core and each public function, class and method of ``fastlic``'s layers.

A row makes a valid call anew: what to call, its arguments by name, and which of those are written to. The hostile calls
are made from it (hostile.py), so a new entry needs a row and nothing else. entries.py finds what has to have one.
"""

from __future__ import annotations

from rows_codec import CODEC
from rows_entropy import ENTROPY
from rows_integers import INTEGERS
from rows_native import NATIVE
from rows_networks import NETWORKS
from rows_ops import OPS

BATCHES = {"native": NATIVE, "ops": OPS, "codec": CODEC, "integers": INTEGERS | NETWORKS, "entropy": ENTROPY}
# Where an answer depends on a GPU, or on Triton's interpreter: called all the same, but not to an answer.
MAY_BE_ABSENT = {
    *("backends.require_triton", "device_transform.DeviceTransform"),
    *("device_engine.DeviceEngine", "device_board.DeviceBoard", "device_slices.DeviceSlices"),
}

# Rows whose calls take long: one in so many of their hostile values, where not all are asked for.
EVERY = {
    **dict.fromkeys(("codec.Codec", "codec.Codec (with a context)", "mlic.model.IntegerMLIC.from_arrays"), 48),
    **dict.fromkeys(("convert.convert", "convert.convert_networks", "convert.quantise_networks"), 12),
    **dict.fromkeys(("mlic.convert.convert", "mlic.convert.convert_latents", "groups.convert.convert_groups"), 12),
    **dict.fromkeys(("convert_variable.convert_variable", "channel_slices.convert.convert_slices"), 12),
    **dict.fromkeys(("effort.refined",), 24),
    **dict.fromkeys(("code_context.IntegerCodeContext.from_float", "fitting.choose_tables"), 6),
    **dict.fromkeys(("latents.LatentEngine (slices)",), 4),
    **dict.fromkeys(("fastlic.compress (by name)", "mcq.McqCoder"), 8),
    **dict.fromkeys(("vq.convert_vq", "vq.VqTransforms.from_arrays"), 72),
    **dict.fromkeys(("transforms.convert_transforms", "transforms.IntegerTransforms.from_arrays"), 12),
}
