"""How a run of faults is told: a line as each ends, a Markdown page of all."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.chaos.verdict import Seen


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault in one round. `ready_s`: until the struck process answered again; None where none was struck.

    `detectable`, `healable`: whether the plan expects it to be seen, and to be healed by itself. `of`: the faults of
    the plan that were struck, two of a pair. `left_out`: it was not struck, since the stack was not well before, or
    since it could not be; what was not struck is in no share.
    """

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
    detectable: bool = True
    healable: bool = True
    of: tuple[str, ...] = ()
    left_out: Literal["", "unwell", "failed"] = ""


_BARS = {"detected": 1.0, "the cause right": 0.95, "healed and verified": 0.95}
HEAD = ("fault", "round", "detected in", "cause named", "action", "healed in", "ready in", "events", "lost", "doubled",
        "failed calls", "as expected", "again")


def cells(outcome: Outcome) -> tuple[str, ...]:
    seen = outcome.seen
    return (outcome.fault, str(outcome.round), _seconds(seen.detected_s), seen.cause or "–",
            ", ".join(seen.actions) or ("a person" if seen.escalated else "–"), _seconds(seen.healed_s),
            _seconds(outcome.ready_s), str(outcome.events), str(outcome.lost), str(outcome.doubled),
            f"{outcome.failed_calls} of {outcome.calls}", "; ".join(outcome.shortcomings) or "yes",
            f"`{shlex.join(_again(outcome))}`")


def line(outcome: Outcome) -> str:
    return "  ".join(f"{name} {cell}" for name, cell in zip(HEAD[2:-1], cells(outcome)[2:-1], strict=True))


def table(outcomes: Sequence[Outcome]) -> str:
    lines = [HEAD, tuple("---" for _ in HEAD), *(cells(one) for one in outcomes)]
    return "\n".join("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in one) + " |"
                     for one in lines) + "\n"


def measures(outcomes: Sequence[Outcome]) -> list[tuple[str, int, int]]:
    """What of how many: (measure, so many were, so many ought to have been)."""
    detectable = [one for one in outcomes if one.detectable and not one.left_out]
    healable = [one for one in detectable if one.healable]
    return [("detected", sum(one.seen.detected_s is not None for one in detectable), len(detectable)),
            ("the cause right", sum(one.seen.right for one in detectable), len(detectable)),
            ("healed and verified", sum(one.seen.healed_s is not None for one in healable), len(healable))]


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many were as expected, over those of which something was."""
    told = ", ".join(f"{found} of {all_} {name}" for name, found, all_ in measures(outcomes))
    quiet = [one for one in outcomes if not one.detectable and not one.left_out]
    left_out = sum(bool(one.left_out) for one in outcomes)
    which = f", {left_out} of them not struck" if left_out else ""
    return (f"{len(outcomes)} faults{which}: {told}; of {len(quiet)} that nobody need do anything about "
            f"{sum(not one.shortcomings for one in quiet)} as expected; {sum(one.lost for one in outcomes)} events "
            f"lost, {sum(one.doubled for one in outcomes)} doubled")


def page(outcomes: Sequence[Outcome], command: str, about: str, ended: str = "") -> str:
    """Markdown: how it was made, shares beside the aims, every fault; `command` and a line's last cell: again.

    `ended`: why these are not all that the plan has.
    """
    shares = "".join(f"| {name} | {found} of {all_}, {found / all_:.0%} | {_BARS[name]:.0%} |\n"
                     for name, found, all_ in measures(outcomes) if all_)
    told = f"{about}\n\n**Not the whole plan: {ended}.**" if ended else about
    return (f"{told}\n\n| faults | | aim |\n| --- | --- | --- |\n{shares}"
            f"| not struck | {sum(bool(one.left_out) for one in outcomes)} | 0 |\n"
            f"| events lost, doubled | {sum(one.lost for one in outcomes)}, {sum(one.doubled for one in outcomes)} "
            f"| 0, 0 |\n\nOne of them again: `{command}` and what stands at the end of its line.\n\n{table(outcomes)}")


def _again(outcome: Outcome) -> list[str]:
    named = outcome.of or (outcome.fault,)
    return [word for name in named for word in ("--only", name)] + ["--together"] * (len(named) > 1)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
