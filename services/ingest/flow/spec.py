"""One announced version of a pipeline, as ingest works by it."""

from dataclasses import dataclass

from lepton.contracts.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Spec:
    """One announced version of a pipeline."""

    pipeline: Pipeline
    version: int
    generation: int
    partitions: int

    @property
    def name(self) -> str:
        return self.pipeline.name

    @property
    def group(self) -> str:
        """Consumer group of the accept stage; also begins its transactional ids."""
        return f"ingest.{self.name}" + (f".g{self.generation}" if self.generation > 1 else "")
