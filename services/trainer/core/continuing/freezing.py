"""Which weights a pattern means, and how they are held as they are."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from services.trainer.core.failure import bad_parameter
from services.trainer.core.networks.network import Network


def matching(names: Sequence[str], pattern: str, key: str) -> list[str]:
    """Names a pattern means: their own, or that of a layer they are in. Raises RunFailed(parameter) for none."""
    found = [name for name in names if any(fnmatchcase(part, pattern) for part in _with_layers(name))]
    if not found:
        raise bad_parameter(f"{key}: `{pattern}` matches nothing of this network",
                            f"it has {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}")
    return found


def freeze(network: Network, patterns: Sequence[str]) -> None:
    """Keep the weights that any pattern means as they are.

    Raises RunFailed(parameter) for a pattern that means none, or where nothing is left to learn.
    """
    weights = dict(network.named_parameters())
    for pattern in patterns:
        for name in matching(list(weights), pattern, "transfer.freeze"):
            weights[name].requires_grad_(False)
    if not any(value.requires_grad for value in weights.values()):
        raise bad_parameter(f"transfer.freeze: {', '.join(patterns)} leaves nothing to learn",
                            "leave at least the last layer free")
    hold(network)


def hold(network: Network) -> None:
    """Have layers of which nothing may change keep their running figures in training."""
    network.held = tuple(layer for layer in network.modules() if layer is not network and any(
        True for _ in layer.parameters()) and not any(one.requires_grad for one in layer.parameters()))


def _with_layers(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
