"""The zoo: a family's name to its network."""

from collections.abc import Callable

import torch

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.families import Family
from lepton.contracts.pipeline_blocks import Task
from services.trainer.core.networks import (
    attention,
    autoencoder,
    convolution,
    own,
    recommender,
    recurrent,
    returns,
    stack,
)
from services.trainer.core.networks.network import Network
from services.trainer.core.preparing.layout import Layout

Build = Callable[[Layout, int, Parameters, torch.Generator], Network]
"""Layout of the prepared columns, number of scores, parameters, chance for the first weights."""

_BUILD: dict[str, Build] = {
    "linear_regression": stack.linear,
    "logistic_regression": stack.linear,
    "mlp": stack.mlp,
    "cnn": convolution.cnn,
    "rnn": recurrent.rnn,
    "lstm": recurrent.lstm,
    "gru": recurrent.gru,
    "transformer": attention.transformer,
    "autoencoder": autoencoder.autoencoder,
    "recommender": recommender.recommender,
    "q_learning": returns.q_learning,
    "dqn": returns.dqn,
    "torch_module": own.own,
}


def build(family: Family, task: Task, layout: Layout, outputs: int, parameters: Parameters) -> Network:
    """A fresh network, the same for the same arguments."""
    network = _BUILD[family](layout, outputs, parameters, torch.Generator().manual_seed(parameters.seed))
    network.task = task
    return network
