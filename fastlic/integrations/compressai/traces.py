"""What CompressAI's layers are made of, for networks of integers: importing this adds them to the table of traces."""

from __future__ import annotations

from fastlic.integers.graph import RECOGNISERS, TRACES, norm, residue
from fastlic.integrations.compressai.dictionaries import Looked, read_looked
from fastlic.integrations.compressai.stages import Analysis, Synthesis
from fastlic.integrations.compressai.theirs import (
    GDN,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
)
from fastlic.integrations.compressai.windows import read_analysis, read_synthesis, recognise

TRACES.update(
    {
        GDN: norm,
        ResidualBlock: residue("conv1", "leaky_relu", "conv2", "leaky_relu", skip="skip"),
        ResidualBlockWithStride: residue("conv1", "leaky_relu", "conv2", "gdn", skip="skip"),
        ResidualBlockUpsample: residue("subpel_conv", "leaky_relu", "conv", "igdn", skip="upsample"),
        ResidualBottleneckBlock: residue("conv1", "relu1", "conv2", "relu2", "conv3", skip="skip"),
        Analysis: read_analysis,
        Synthesis: read_synthesis,
        Looked: read_looked,
    }
)
RECOGNISERS.append(recognise)
