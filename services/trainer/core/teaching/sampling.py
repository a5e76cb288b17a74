"""Which rows an epoch learns from, in which order."""

import torch

from lepton.contracts.modelling.blocks import Parameters


def order(parameters: Parameters, truth: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Places of rows: each once, in an order of chance.

    With `sampling: balanced` rows of a smaller class follow again, whole rounds of them and then some by chance, until
    every class comes as often as the largest: no row is left out, and none comes twice more often than another of its
    class.
    """
    if parameters.sampling == "plain":
        return torch.randperm(len(truth), generator=chance)
    places = [torch.nonzero(truth == one).flatten() for one in torch.unique(truth)]
    largest = max(len(one) for one in places)
    drawn = [torch.cat([one.repeat(largest // len(one)),
                        one[torch.randperm(len(one), generator=chance)[:largest % len(one)]]]) for one in places]
    everything = torch.cat(drawn)
    return everything[torch.randperm(len(everything), generator=chance)]
