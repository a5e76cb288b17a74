"""How a run of faults is told: a line as each ends, a Markdown table of all."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.chaos.verdict import Seen


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault in one round. `ready_s`: until the struck process answered again; None where none was struck."""

    fault: str
    round: int
    seen: Seen
    ready_s: float | None
    events: int
    lost: int
    doubled: int
    calls: int
    failed_calls: int
    shortcomings: tuple[str, ...]


HEAD = ("fault", "round", "detected in", "cause named", "action", "healed in", "ready in", "events", "lost", "doubled",
        "failed calls", "as expected")


def cells(outcome: Outcome) -> tuple[str, ...]:
    seen = outcome.seen
    return (outcome.fault, str(outcome.round), _seconds(seen.detected_s), seen.cause or "–",
            ", ".join(seen.actions) or ("a person" if seen.escalated else "–"), _seconds(seen.healed_s),
            _seconds(outcome.ready_s), str(outcome.events), str(outcome.lost), str(outcome.doubled),
            f"{outcome.failed_calls} of {outcome.calls}", "; ".join(outcome.shortcomings) or "yes")


def line(outcome: Outcome) -> str:
    return "  ".join(f"{name} {cell}" for name, cell in zip(HEAD[2:], cells(outcome)[2:], strict=True))


def table(outcomes: Sequence[Outcome]) -> str:
    lines = [HEAD, tuple("---" for _ in HEAD), *(cells(one) for one in outcomes)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in one) + " |" for one in lines) + "\n"


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many were as expected, over those of which something was."""
    expected = [one for one in outcomes if one.seen.detected_s is not None or one.shortcomings]
    fair = sum(not one.shortcomings for one in expected)
    return (f"{len(outcomes)} faults: {sum(one.seen.detected_s is not None for one in outcomes)} detected, "
            f"{sum(one.seen.right for one in outcomes)} with the cause that was expected, "
            f"{sum(one.seen.healed_s is not None for one in outcomes)} healed and verified; "
            f"{fair} of {len(expected)} as expected; {sum(one.lost for one in outcomes)} events lost, "
            f"{sum(one.doubled for one in outcomes)} doubled")


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
