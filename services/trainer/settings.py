"""What the trainer can be told beyond what every service can."""

from typing import ClassVar

from pydantic import Field

from lepton.runtime.settings import LeptonSettings


class TrainerSettings(LeptonSettings):
    """Defaults fit a laptop: one training process at a time, which gives way to everything else."""

    service: ClassVar[str] = "trainer"

    lease_s: float = Field(default=5.0, ge=1, le=3600)
    """Seconds after which the run of a trainer that died elsewhere may be taken over."""

    processes: int = Field(default=1, ge=1, le=64)
    """Training processes at the same time."""

    look_s: float = Field(default=1.0, gt=0, le=3600)
    """Seconds between two counts of labelled rows."""

    row_pause_s: float = Field(default=5.0, ge=0, le=86_400)
    """Seconds a model rests between two runs started by row count."""

    run_memory_mb: int = Field(default=8192, ge=0)
    """Private memory each process of a run may take before its run fails; 0: as much as there is."""

    run_limit_s: float = Field(default=3600.0, gt=0)
    """Seconds after which a run fails: its process sees to it after each epoch, and between its stages."""

    run_grace_s: float = Field(default=60.0, gt=0, le=86_400)
    """Seconds beyond run_limit_s after which a run's process is ended, whatever it is at."""

    segment_cache_mb: int = Field(default=48, ge=0, le=4096)
    """Memory for row segments that the next run is likely to read again."""

    collect_s: float = Field(default=3600.0, gt=0)
    """Seconds between two looks for retired versions and for files of models that nothing refers to."""

    modules: str = ""
    """Modules of torch that runs may import, with commas between: `package.module`, or `package.module:name`. To import
    one is to run it with all that the trainer may do. Empty: none."""

    @property
    def allowed_modules(self) -> tuple[str, ...]:
        return tuple(one.strip() for one in self.modules.split(",") if one.strip())
