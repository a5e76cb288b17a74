"""The `heal` block: what is done about which symptom of a pipeline, how often, when, and who has a word in it."""

from typing import Annotated, Literal

from pydantic import Field

from lepton.contracts.pipeline_blocks import Block

Training = Literal["retrain", "tune", "fine_tune"]
"""A version learnt anew with the Pipeline's parameters, anew with parameters searched for, or from the champion on."""

Action = Literal["roll_back", Training, "quarantine", "replay_dead_letters", "fall_back", "throttle", "scale_out",
                 "shed", "restore_backup", "pause"]
"""What can be done about a pipeline, its model and its load; restarts of processes are no pipeline's."""

Cured = Literal["line_stopped", "broken_data", "unusual_rows"]
"""Symptoms during which good rows may be refused."""


class Budget(Block):
    actions: Annotated[int, Field(ge=0, le=1000)] = 6
    per_s: Annotated[float, Field(gt=0)] = 600


class Maintenance(Block):
    """A time of each day, UTC; over midnight where it ends before it begins."""

    begin: Annotated[str, Field(alias="from", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    end: Annotated[str, Field(alias="to", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]

    @property
    def minutes(self) -> tuple[int, int]:
        """The first minute of the day and the one after the last."""
        return _minute(self.begin), _minute(self.end)


def _minute(time: str) -> int:
    """Of the day, from `HH:MM`."""
    hours, _, minutes = time.partition(":")
    return 60 * int(hours) + int(minutes)


class Ladders(Block):
    """Actions by symptom, in the order they are tried; after the last, or with none, a person is told."""

    quality_loss: Annotated[tuple[Literal["roll_back", Training], ...], Field(strict=False, max_length=6)] = (
        "roll_back", "retrain", "retrain", "tune")
    """Where parameters are to blame, the tune comes at once after what showed it."""
    estimated_loss: Annotated[tuple[Training, ...], Field(strict=False, max_length=6)] = ()
    """Quality that is estimated while no labels come: a person is told at once where it is empty."""
    poor_feedback: Annotated[tuple[Literal["roll_back", Training], ...], Field(strict=False, max_length=6)] = (
        "roll_back",)
    """People reject the champion's answers more than usual. A roll back only where that came with the version."""
    drift: Annotated[tuple[Training, ...], Field(strict=False, max_length=6)] = ("retrain",)
    """Only where `watch.drift.then` is `retrain`."""
    training_failure: Annotated[tuple[Training, ...], Field(strict=False, max_length=6)] = ("tune",)
    """A run failed. A tune only where it diverged."""
    broken_data: Annotated[tuple[Literal["quarantine", "pause"], ...], Field(strict=False, max_length=2)] = (
        "quarantine", "pause")
    """A quarantine is for one source that is to blame, a pause for rows of every source that are turned away."""
    broken_field: Annotated[tuple[Literal["quarantine", "pause"], ...], Field(strict=False, max_length=2)] = (
        "quarantine", "pause")
    """A quarantine is for a field that rows can do without, a pause for one that they cannot."""
    line_stopped: Annotated[tuple[Literal["pause"], ...], Field(strict=False, max_length=1)] = ()
    """A line that a dead-letter limit stopped stands still as it is; a pause makes every process stand still."""
    availability: Annotated[tuple[Literal["fall_back"], ...], Field(strict=False, max_length=1)] = ("fall_back",)
    """Only while the champion is young and another answered before it."""
    latency: Annotated[tuple[Literal["fall_back"], ...], Field(strict=False, max_length=1)] = ("fall_back",)
    """As `availability`."""
    overload: Annotated[tuple[Literal["throttle", "scale_out", "shed"], ...], Field(strict=False, max_length=6)] = (
        "throttle", "scale_out", "scale_out", "shed", "shed")
    """Requests are refused for want of room. A throttle is for one client that is to blame for it; each scale-out is
    one process more, up to `serve.replicas.max`; a shed turns requests of low priority away, where there are some."""
    lag: Annotated[tuple[Literal["scale_out"], ...], Field(strict=False, max_length=6)] = ("scale_out", "scale_out")
    surge: Annotated[tuple[Literal["scale_out"], ...], Field(strict=False, max_length=6)] = ("scale_out",)
    lost_file: Annotated[tuple[Literal["restore_backup", "roll_back", Training], ...], Field(
        strict=False, max_length=6)] = ("restore_backup", "roll_back", "retrain")
    """The champion's bytes are gone or damaged. Without a backup what follows is done at once."""
    load_ahead: Annotated[tuple[Literal["scale_out"], ...], Field(strict=False, max_length=1)] = ("scale_out",)
    """Lag that will be too much soon; empty: it is waited for."""


class Heal(Block):
    ladders: Ladders = Ladders()
    budget: Budget = Budget()
    replay_after: Annotated[tuple[Cured, ...], Field(strict=False)] = ()
    """Symptoms after whose end the dead letters that came meanwhile are sent back, each once."""
    dry_run: Annotated[tuple[Action, ...], Field(strict=False)] = ()
    """Actions that are not taken: a person is told what would have been done."""
    approval: Annotated[tuple[Action, ...], Field(strict=False)] = ()
    """Actions that wait for a person's word: `lepton incidents approve ID`, or `deny`."""
    approval_s: Annotated[float, Field(ge=1, le=604_800)] = 3_600
    """Seconds they wait; then the incident is left to a person."""
    maintenance: Annotated[tuple[Maintenance, ...], Field(strict=False, max_length=50)] = ()
    """When nothing is done about the pipeline; what is wrong waits for the end."""
    quarantined_fields: Annotated[int, Field(ge=0, le=100)] = 1
    """So many fields at once are quarantined, whoever did it, before the next one is left to a person."""
    restore_after_s: Annotated[float, Field(ge=0, le=604_800)] = 30
    """Seconds for which a quarantined field must have been well before its values count again."""
    resume_after_s: Annotated[float, Field(ge=0, le=604_800)] = 120
    """Seconds after a pause for rows that were turned away until it is tried again, twice as long each time; 0: never.
    """
    resume_longest_s: Annotated[float, Field(ge=1, le=604_800)] = 3_600
    cool_down_s: Annotated[float, Field(ge=0)] = 20
    notify: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Apprise URLs, or `log`."""
