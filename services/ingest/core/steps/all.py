"""Which steps a Pipeline asks for, in the order they see a batch."""

from lepton.contracts.pipeline import Pipeline
from services.ingest.core.steps.forward_fill import ForwardFillStep
from services.ingest.core.steps.step import Step
from services.ingest.core.windows.step import Windows


def steps_of(pipeline: Pipeline) -> list[Step]:
    """Each step may rely on what those before it added. One without work now may get some by a newer version."""
    return [ForwardFillStep(pipeline), Windows(pipeline)]
