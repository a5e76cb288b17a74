"""Low-rank adapters beside frozen layers (Hu et al., 2021), by peft; merged into the layers before an export."""

from typing import Any

import torch
from torch import nn

from lepton.contracts.modelling.blocks import Lora
from services.trainer.core.continuing.freezing import hold, matching
from services.trainer.core.failure import RunFailed, bad_parameter
from services.trainer.core.networks.network import Network, hold_still, spread
from services.trainer.core.networks.stack import Side

_NAME = "carried"
# Two sums of the same numbers in another order.
_TOLERANCE = 1e-4
_TRIED_ROWS = 256


class Adapters:
    """What learns instead of the layers it stands beside; `merge` ends it."""

    def __init__(self, network: Network, wanted: Lora, free: str, seed: int) -> None:
        """`free` is a layer that learns as a whole, because it is new; empty: none.

        Raises RunFailed(parameter) for a pattern that means no layer of weights.
        """
        chosen = _chosen(network, wanted, free)
        # A layer of several members is one product of all of them, which peft stands beside as it does beside the
        # experts of a mixture: by its weights [members, after, before], with two thin matrices for each member.
        shared = [name for name in chosen if isinstance(network.get_submodule(name), Side)]
        # Seconds and half a gigabyte, which only such a run is to pay.
        from peft import LoraConfig, LoraModel

        config = LoraConfig(r=wanted.rank, lora_alpha=wanted.alpha, lora_dropout=0.0,  # type: ignore[arg-type]  # float
                            target_modules=[name for name in chosen if name not in shared],
                            target_parameters=[f"{name}.weight" for name in shared])
        stilled = {name: held for name in chosen for weight, held in network.stilled
                   if weight is network.get_submodule(name).weight}
        self._network = network
        self._tuner = LoraModel(network, config, _NAME)
        chance = torch.Generator().manual_seed(seed)
        for name in chosen:
            layer: Any = network.get_submodule(name)
            # As peft begins, but from this run's chance: the first of the two spread, the second at zero.
            spread(layer.lora_A[_NAME], chance)
            nn.init.zeros_(layer.lora_B[_NAME].weight)
            if name in stilled:
                # Columns without a say in the layer have none beside it: else the first matrix would spread them.
                hold_still(layer.lora_A[_NAME].weight, stilled[name])
        for name, value in network.named_parameters():
            if free and name.rpartition(".")[0] == free:
                value.requires_grad_(True)
        hold(network)

    def merge(self, rows: torch.Tensor) -> None:
        """Add what was learnt to the layers, which are plain again; they must answer `rows` as with the adapters."""
        some = rows[:_TRIED_ROWS]
        apart = self._scores(some)
        self._tuner.merge_and_unload()
        self._network.held = ()
        merged = self._scores(some)
        if some.numel() and float(((merged - apart).abs() / (1 + apart.abs())).max()) > _TOLERANCE:
            raise RunFailed("internal", "the network does not answer with its adapters merged as it did beside them",
                            "this is a bug of the trainer; nothing was published")

    def _scores(self, rows: torch.Tensor) -> torch.Tensor:
        self._network.eval()
        with torch.no_grad():
            scores: torch.Tensor = self._network(rows)
        return scores


def _chosen(network: Network, wanted: Lora, free: str) -> list[str]:
    """Layers that get an adapter: those that any pattern means, of which the weights are not frozen.

    Convolutions in groups are none: peft can't merge what stands beside them.
    """
    layers = {name: module for name, module in network.named_modules()
              if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | Side) and getattr(module, "groups", 1) == 1}
    if not layers:
        raise bad_parameter("transfer.lora: this network has no layer an adapter can stand beside",
                            "fine-tune without lora")
    found = {name for pattern in wanted.layers for name in matching(list(layers), pattern, "transfer.lora.layers")}
    chosen = sorted(name for name in found if name != free and layers[name].weight.requires_grad)
    if not chosen:
        raise bad_parameter("transfer.lora.layers: nothing is left to stand an adapter beside",
                            "name linear layers or convolutions that are not frozen, and not the head where it is "
                            "a new one")
    return chosen
