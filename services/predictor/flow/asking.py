"""What a request by named fields asks for: its rows whole, those that cannot be, and how both are told."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf import struct_pb2

from lepton.contracts.pb.prediction_pb2 import PredictRequest, RowError, RowPrediction
from lepton.errors import Invalid, LeptonError, Missing, Unavailable
from services.predictor.core.engine import Engine
from services.predictor.core.recent.newest import Newest
from services.predictor.core.rows import EXPLAIN_REMEDY
from services.predictor.core.signature import Feed
from services.predictor.flow.entities import Entities, Unsupported


@dataclass(slots=True)
class Gathered:
    """`feed` holds the rows at the `kept` places; None when there are none. `errors` says of the others why."""

    feed: Feed | None
    newest: Sequence[Newest | None]
    kept: Sequence[int]
    errors: dict[int, LeptonError] = field(default_factory=dict)

    def told(self, answers: Sequence[RowPrediction]) -> list[RowPrediction]:
        """One message a row of the request, in order, from the answers to the rows of the feed."""
        found = [RowPrediction() for _ in self.newest]
        for place, answer, newest in zip(self.kept, answers, map(self.newest.__getitem__, self.kept), strict=True):
            found[place] = answer
            if newest is not None:
                answer.joined.event_id = newest.event_id
                answer.joined.occurred_at.FromDatetime(newest.occurred_at)
        for place, error in self.errors.items():
            found[place].error.CopyFrom(RowError(outcome=_outcome(error), message=error.message,
                                                 field=error.field or "", remedy=error.remedy or ""))
        return found


def key_of(request: PredictRequest) -> str:
    """What a request is kept together with others by, while a candidate is tried."""
    return request.entity or next(iter(request.entities), "") or request.request_id


def about(request: PredictRequest) -> str:
    """The one entity that all rows are about; empty where none is named, or several."""
    return request.entity or (request.entities[0] if len(set(request.entities)) == 1 else "")


def gather(request: PredictRequest, engine: Engine, entities: Entities) -> Gathered:
    """Raises Invalid, Missing or Unavailable: with `each` only for what concerns the request as a whole."""
    rows: Sequence[struct_pb2.Struct] = request.rows or [struct_pb2.Struct() for _ in request.entities]
    names = list(request.entities) or [""] * len(rows)
    if len(names) != len(rows):
        raise Invalid(f"{len(names)} entities for {len(rows)} rows", field="entities",
                      remedy="name one a row, empty for a row without, or leave out `rows`")
    if request.explain and not engine.signature.explains:
        raise Unsupported("this version cannot say what each field did", field="explain", remedy=EXPLAIN_REMEDY)
    engine.check_rows(len(rows), request.explain)
    try:
        newest = [entities.find(request.model, name) if name else None for name in names]
        return Gathered(engine.prepare_rows(rows, request.explain, newest), newest, range(len(rows)))
    except Unsupported:
        raise
    except (Invalid, Missing, Unavailable):
        if not request.each:
            raise
    return _one_by_one(request, rows, names, engine, entities)


def _one_by_one(request: PredictRequest, rows: Sequence[struct_pb2.Struct], names: Sequence[str], engine: Engine,
                entities: Entities) -> Gathered:
    newest: list[Newest | None] = [None] * len(rows)
    kept: list[int] = []
    errors: dict[int, LeptonError] = {}
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        try:
            newest[place] = entities.find(request.model, name) if name else None
            engine.prepare_rows([row], request.explain, [newest[place]])
        except (Invalid, Missing, Unavailable) as error:
            errors[place] = error
        else:
            kept.append(place)
    feed = engine.prepare_rows([rows[place] for place in kept], request.explain,
                               [newest[place] for place in kept]) if kept else None
    return Gathered(feed, newest, kept, errors)


def _outcome(error: LeptonError) -> str:
    return next(kind.__name__ for kind in (Missing, Unavailable, Invalid) if isinstance(error, kind))
