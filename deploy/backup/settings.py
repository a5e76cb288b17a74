"""What backups can be told beyond what every service can."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lepton.runtime.settings import LeptonSettings


class BackupSettings(LeptonSettings):
    """Defaults fit the local stack, which takes backups by itself once a folder and a key are given."""

    service: ClassVar[str] = "backup"

    dir: str = ""
    """Folder of the backups; on another disk than the data, best on another machine. Where it is given, the local
    stack takes backups by itself."""

    key_file: str = ""
    """File of the key that backups are sealed under, made by `lepton backup key FILE`; keep a copy elsewhere."""

    passphrase_file: str = ""
    """File whose first line is the passphrase they are sealed under, instead of a key file."""

    every_h: float = Field(default=24.0, ge=0.01, le=24 * 366)
    """Hours between two backups of the schedule."""

    keep: int = Field(default=7, ge=1, le=10_000)
    """So many of the newest backups are kept, whatever their age."""

    keep_days: float = Field(default=0.0, ge=0, le=36_500)
    """Days for which older ones are kept too; 0: none."""

    events: Literal["all", "waiting"] = "all"
    """Raw events in a backup: all that the topics still hold, or those alone that nobody has taken in yet."""

    rest: str = ""
    """The gateway's address, to keep some predictions in the backup that a restored stack must repeat; for the local
    stack it is known."""

    api_key_file: str = ""
    """File of the API key for that; for the local stack it is known."""

    @model_validator(mode="after")
    def _one_secret(self) -> "BackupSettings":
        if self.key_file and self.passphrase_file:
            raise ValueError("give LEPTON_BACKUP_KEY_FILE or LEPTON_BACKUP_PASSPHRASE_FILE, not both")
        return self
