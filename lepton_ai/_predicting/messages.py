"""How rows become a request over gRPC, and an answer plain values, named as over REST."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format, struct_pb2

from lepton.contracts.pb import prediction_pb2
from lepton.errors import Invalid


@dataclass(frozen=True, slots=True)
class Question:
    """What one call asks. `entities`: by row, whose newest features fill it up; alone, or as many as the rows.

    `each`: a row that cannot be answered has an `error` instead of failing the call. `version` 0: whatever answers.
    """

    model: str
    rows: Sequence[Mapping[str, Any]]
    version: int = 0
    explain: bool = False
    entities: Sequence[str] = ()
    each: bool = False

    def body(self) -> dict[str, Any]:
        """As REST takes it."""
        said = {"explain": self.explain, "entities": list(self.entities), "each": self.each}
        return {"rows": list(self.rows), "version": self.version, **{name: one for name, one in said.items() if one}}

    def message(self) -> prediction_pb2.PredictRequest:
        """Raises Invalid for a row that is not made of JSON values."""
        return prediction_pb2.PredictRequest(
            model=self.model, version=self.version, rows=[_struct(row) for row in self.rows], explain=self.explain,
            entities=self.entities, each=self.each)


def plain(row: prediction_pb2.RowPrediction, *, explain: bool) -> dict[str, Any]:
    """One answer."""
    found = _error(row.error) if row.HasField("error") else _answer(row)
    if row.HasField("joined"):
        found["joined"] = {"event_id": row.joined.event_id, "occurred_at": row.joined.occurred_at.ToJsonString()}
    if explain and not row.HasField("error"):
        found["attributions"] = dict(row.attributions)
        if row.attribution_parts:
            found["attribution_parts"] = {name: {"shape": list(told.shape), "values": list(told.values)}
                                          for name, told in row.attribution_parts.items()}
    return found


def _error(error: prediction_pb2.RowError) -> dict[str, Any]:
    return {"error": {"outcome": error.outcome, "message": error.message, "field": error.field,
                      "remedy": error.remedy}}


def _answer(row: prediction_pb2.RowPrediction) -> dict[str, Any]:
    if row.WhichOneof("answer") == "number":
        return {"number": row.number, **({"low": row.low, "high": row.high} if row.HasField("low") else {})}
    found: dict[str, Any] = {"label": row.label}
    if row.top:
        return found | {"top": [{"item": one.item, "score": one.score} for one in row.top]}
    if row.values:
        return found | {"values": dict(row.values)}
    return found | ({"score": row.score} if row.HasField("score") else {"probabilities": dict(row.probabilities)})


def _struct(row: Mapping[str, Any]) -> struct_pb2.Struct:
    try:
        return json_format.ParseDict(dict(row), struct_pb2.Struct())
    except json_format.ParseError as failure:
        raise Invalid(f"a row is not made of JSON values: {failure}", field="rows") from failure
