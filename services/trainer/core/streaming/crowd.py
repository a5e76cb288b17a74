"""A stream's experts as they stand, as a network that can be published: no training, only answering.

All in 64 bits: an angle may be many turns, of which 32 bits would not leave enough digits.
"""

import numpy as np
import torch
from onnx import TensorProto

from services.trainer.core.emitting.building import Graph
from services.trainer.core.networks.network import Network
from services.trainer.core.streaming.experts import column_scale, features, random_scale
from services.trainer.core.streaming.learner import FAR, LEAST_CHANCE, SURE, StreamLearner


class Crowd(Network):
    """Scores are what `core/export/answers.py` expects: log chances, their difference for two classes, or the
    standardised number."""

    def __init__(self, learner: StreamLearner, classes: bool) -> None:
        super().__init__()
        experts = learner.experts
        assert experts is not None
        self.task = "classification" if classes else "regression"
        self._center = torch.from_numpy(learner.standard.center)
        self._scale = torch.from_numpy(learner.standard.scale)
        self._frequencies = experts.frequencies
        # The first target is the constant.
        self._weights = experts.weights[:, :, 1:].contiguous()
        self._trust = torch.from_numpy(learner.trust)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        standard = torch.clamp((rows.double() - self._center) / self._scale, -FAR, FAR)
        said = features(standard, self._frequencies) @ self._weights
        if self.task == "classification":
            said = torch.clamp(said, -SURE, SURE)
        answer = (self._trust[:, None, None] * said).sum(dim=0)
        if self.task == "regression":
            return answer.float()
        logs = torch.log(torch.clamp((answer + 1) / 2, LEAST_CHANCE, 1 - LEAST_CHANCE))
        return (logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs).float()

    def emit(self, graph: Graph, prepared: str) -> str:
        wide = graph.add("Cast", [prepared], "crowd:wide", to=TensorProto.DOUBLE)
        centred = graph.add("Sub", [wide, graph.constant("crowd:center", self._center.numpy())], "crowd:centered")
        scaled = graph.add("Div", [centred, graph.constant("crowd:scale", self._scale.numpy())], "crowd:scaled")
        standard = _bounded(graph, scaled, -FAR, FAR, "crowd:standard")
        columns = graph.constant("crowd:columns", np.array(column_scale(len(self._center))))
        plain = graph.add("Mul", [standard, columns], "crowd:plain")
        parts = [self._emit_expert(graph, standard, plain, place) for place in range(len(self._trust))]
        answer = parts[0]
        for place, part in enumerate(parts[1:]):
            answer = graph.add("Add", [answer, part], f"crowd:sum_{place}")
        if self.task == "classification":
            answer = self._emit_chances(graph, answer)
        return graph.add("Cast", [answer], "crowd:scores", to=TensorProto.FLOAT)

    def _emit_expert(self, graph: Graph, standard: str, plain: str, place: int) -> str:
        name, weights = f"crowd:{place}", self._weights[place].numpy()
        scale, count = random_scale(self._frequencies), self._frequencies.shape[2]
        angles = graph.add("MatMul", [standard, graph.constant(
            f"{name}:frequencies", self._frequencies[place].numpy())], f"{name}:angles")
        turned = [graph.add(operator, [angles], f"{name}:{operator.lower()}") for operator in ("Cos", "Sin")]
        known = graph.add("Concat", [*turned, plain], f"{name}:features", axis=1)
        # The last feature is 1, so its weights are what is added; those of cosines and sines take in their scale.
        folded = np.concatenate([weights[:2 * count] * scale, weights[2 * count:-1]])
        said = graph.add("MatMul", [known, graph.constant(f"{name}:weights", folded)], f"{name}:weighed")
        said = graph.add("Add", [said, graph.constant(f"{name}:constant", weights[-1])], f"{name}:said")
        if self.task == "classification":
            said = _bounded(graph, said, -SURE, SURE, f"{name}:bounded")
        return graph.add("Mul", [said, graph.constant(f"{name}:trust", self._trust[place].numpy())],
                         f"{name}:trusted")

    def _emit_chances(self, graph: Graph, answer: str) -> str:
        half = graph.constant("crowd:half", np.array(0.5))
        chances = graph.add("Add", [graph.add("Mul", [answer, half], "crowd:halved"), half], "crowd:raised")
        logs = graph.add("Log", [_bounded(graph, chances, LEAST_CHANCE, 1 - LEAST_CHANCE, "crowd:chances")],
                         "crowd:logs")
        if self._weights.shape[2] != 2:
            return logs
        # Times [-1, 1], which leaves the second minus the first: [rows, 1].
        return graph.add("MatMul", [logs, graph.constant("crowd:difference", np.array([[-1.0], [1.0]]))],
                         "crowd:second_over_first")


def _bounded(graph: Graph, value: str, low: float, high: float, name: str) -> str:
    above = graph.add("Max", [value, graph.constant(f"{name}:low", np.array(low))], f"{name}:above")
    return graph.add("Min", [above, graph.constant(f"{name}:high", np.array(high))], name)
