"""Makes files of networks that were compressed without training: statistics estimated again, exported, verified."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nas_kd.data.dataset import Dataset, as_input
from nas_kd.engine.batch_statistics import re_estimate
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import verify
from nas_kd.kd.baselines.base import BaselineInputs, CompressedFile, CompressedNetwork
from nas_kd.results.trial_record import Costs

BATCHES, BATCH_SIZE = 8, 128  # of training samples that statistics are estimated on
COMPARED = 256  # validation samples on which file and network are compared


def as_compressed(network: nn.Module, name: str, description: str, inputs: BaselineInputs) -> CompressedNetwork:
    """Make the file of a compressed network.

    Args:
        network: takes samples as they are stored; changed: its batch norms get new statistics.
        name: tells the networks of a baseline apart.
        description: for people.
        inputs: data to estimate on and to verify with.

    Raises:
        TrialError: it cannot be exported, or its file does not give what it gives.
    """
    data, started = inputs.context.data, time.perf_counter()
    network = re_estimate(network, _batches(data, inputs.context.seed))
    onnx = export_onnx(network, data.input_shape, data.task.output, data.output_axes)
    parity = verify(onnx, network, as_input(data.val.x[:COMPARED]), data.task)
    seconds = round(time.perf_counter() - started, 4)
    return CompressedNetwork(
        name=name,
        description=description,
        precision="fp32",
        files=(CompressedFile(inputs.context.seed, onnx, parity, seconds),),
        counts=Costs(parameters=count_parameters(network), macs=count_macs(network, data.input_shape)),
    )


def _batches(data: Dataset, seed: int) -> Iterator[Tensor]:
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[: BATCHES * BATCH_SIZE]
    for rows in torch.split(order, BATCH_SIZE):
        if len(rows) > 1 or len(order) == 1:  # batch norms need two samples
            yield as_input(data.train.x[rows])
