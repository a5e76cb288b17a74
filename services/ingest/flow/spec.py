"""One announced version of a pipeline, as ingest works by it."""

from dataclasses import dataclass, replace

from lepton.contracts.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Spec:
    """One announced version of a pipeline."""

    pipeline: Pipeline
    version: int
    generation: int
    partitions: int
    rows_since: int = 0
    """First generation whose rows fit this version; 0: its own."""

    @property
    def former(self) -> "Spec | None":
        """The generation before, where there was one; by this version's Pipeline."""
        return replace(self, generation=self.generation - 1) if self.generation > 1 else None

    @property
    def keeps_rows(self) -> bool:
        """Whether rows of the generation before fit this version."""
        return 0 < self.rows_since < self.generation

    @property
    def name(self) -> str:
        return self.pipeline.name

    @property
    def group(self) -> str:
        """Consumer group of the accept stage; also begins its transactional ids."""
        return f"ingest.{self.name}" + (f".g{self.generation}" if self.generation > 1 else "")
