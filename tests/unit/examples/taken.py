"""What ingest makes of an example's rows when they are uploaded."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lepton.contracts.pipeline import Pipeline
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.past import Past
from tests.unit.ingest.samples import record


def refusals(of: Pipeline, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why rows are refused; nothing where all are taken."""
    sent = [record(json.dumps(row).encode(), offset, ()) for offset, row in enumerate(rows)]
    judged = Acceptance(of, 1).judge(sent, Past.of(of), {}, frozenset())
    return [one.message for one in judged.rejections]
