"""What the edge server is told beyond what a predictor is."""

from pathlib import Path

from services.predictor.settings import PredictorSettings


class EdgeSettings(PredictorSettings):
    """Of a predictor's settings those of doors, models and telemetry count; of broker and database none."""

    bundle: Path
    """The archive that `lepton models export` wrote."""

    keys: Path | None = None
    """File of API keys, one `lk_….…` a line, who may call; without it anybody on this machine may, and nobody else."""
