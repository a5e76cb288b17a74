"""An incident's report for people: Markdown that says what happened, why, how long it took and what was done."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from lepton.contracts.pb.incidents_pb2 import Incident, IncidentState
from services.gateway.core.incidents.course import ALSO, Action, Times, actions, at_s, seconds, times

CLASSES = ("data", "parameters", "resources", "surge", "process", "dependency")
_ADDRESS = "/:._-%?=&"
_CAUSE = re.compile(rf"(?:^|; )({'|'.join(CLASSES)}) (\d+)% \(")
_ROOT = "; root "
# Beside what Markdown means by itself, what GitHub's viewer makes of addresses.
_MARKUP = re.compile(r"[\\`*\[\]<>|#_~&@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def written(incident: Incident, plot: str = "") -> str:
    """The report. `plot`: address of the timeline's picture, as seen from the report; empty: there is none."""
    took, done = times(incident), actions(incident)
    parts = [f"# Incident {_code(incident.incident_id)}: {_plain(incident.symptom)} at {_code(incident.target)}",
             "## What happened", " ".join(_story(incident, took, done)),
             "## Cause", *_cause(incident),
             "## Times", _table(("", "seconds", "from", "to"), _times(incident, took)),
             "## Timeline", *([_picture(incident, plot)] if plot else []),
             _table(("time (UTC)", "after", "what", "detail"), _timeline(incident)),
             "## Actions", _actions(done, len(incident.command_ids)),
             "## Verdict", _verdict(incident),
             f"The decisions can be computed again from the watchdog's journal: `python -m tools.replay "
             f"{incident.incident_id}`."]
    return "\n\n".join(parts) + "\n"


def _picture(incident: Incident, plot: str) -> str:
    return f"![Timeline of {_plain(incident.incident_id)}]({quote(plot, safe=_ADDRESS)})"


def _story(incident: Incident, took: Times, done: Sequence[Action]) -> Iterable[str]:
    detail = next((event.detail for event in incident.timeline if event.what == "opened"), "")
    named = not incident.pipeline or incident.target.endswith(f":{incident.pipeline}")
    about = "" if named else f" of pipeline {_code(incident.pipeline)}"
    yield (f"On {_time(seconds(incident, 'opened_at'))} the watchdog opened an incident: {_code(incident.symptom)} at "
           f"{_code(incident.target)}{about}{': ' + _plain(detail) if detail else ''}.")
    if took.detect_s is not None:
        yield f"The first sign of it was {took.detect_s:.2f} s before."
    yield f"It blamed {_code(incident.cause)}." if incident.cause else "It named no cause."
    also = [event.what.removeprefix(ALSO) for event in incident.timeline if event.what.startswith(ALSO)]
    if also:
        yield f"The same cause showed as {' and '.join(_code(kind) for kind in also)} too."
    if done and len(done) < len(incident.command_ids):
        yield f"It commanded {len(incident.command_ids)} times, of which {len(done)} are told below."
    elif done:
        names = ", then ".join(_plain(one.name) for one in done)
        when = f", the first {took.decide_s:.2f} s after the opening" if took.decide_s is not None else ""
        yield f"It commanded {names}{when}."
    else:
        yield "It commanded nothing."
    if incident.state == IncidentState.INCIDENT_STATE_VERIFIED:
        when = f" {took.heal_s:.2f} s after the first command" if took.heal_s is not None else ""
        yield f"On {_time(seconds(incident, 'closed_at'))}{',' if when else ''}{when}{',' if when else ''} it was over."
    elif incident.awaiting:
        yield f"It is not over: {_code(incident.awaiting)} waits for a person's word."
    elif incident.state == IncidentState.INCIDENT_STATE_ESCALATED:
        yield "It is not over: a person is needed."
    else:
        yield "It is not over."


def _cause(incident: Incident) -> list[str]:
    kind, _, part = incident.cause.partition(":")
    named = f"{_code(incident.cause)}: class {_plain(kind)}, component {_code(part)}." if part else "None was named."
    detail = next((event.detail for event in incident.timeline if event.what == "diagnosed"), "")
    if not detail:
        return [named, "No ranking of causes was noted when it opened."]
    ranked, root = detail, ""
    if _ROOT in detail:
        ranked, _, root = detail.rpartition(_ROOT)
    found = list(_CAUSE.finditer(ranked))
    if not found:
        return [named, _plain(detail)]
    ends = [one.start() for one in found[1:]] + [len(ranked)]
    rows = [(one[1], f"{one[2]} %", ranked[one.end():end].removesuffix(")"))
            for one, end in zip(found, ends, strict=True)]
    told = ["How the classes of causes were ranked when it opened:", _table(("class", "confidence", "evidence"), rows)]
    return [named, *told, *([f"Root: {_plain(root)}."] if root else [])]


def _times(incident: Incident, took: Times) -> list[tuple[str, str, str, str]]:
    began, opened = seconds(incident, "began_at"), seconds(incident, "opened_at")
    commanded = None if took.decide_s is None or opened is None else opened + took.decide_s
    closed = seconds(incident, "closed_at")
    lost = "not known: the command's note is gone" if incident.command_ids else "nothing was commanded"
    return [
        ("detect", _figure(took.detect_s, "not known: the watchdog cannot say when it began"),
         f"first sign, {_clock(began)}" if began else "first sign", f"opened, {_clock(opened)}"),
        ("decide", _figure(took.decide_s, lost),
         f"opened, {_clock(opened)}", f"first command, {_clock(commanded)}" if commanded else "first command"),
        ("heal", _figure(took.heal_s, "not over" if closed is None else lost),
         f"first command, {_clock(commanded)}" if commanded else "first command",
         f"verified, {_clock(closed)}" if closed else "verified")]


def _timeline(incident: Incident) -> list[tuple[str, str, str, str]]:
    start = seconds(incident, "opened_at") or 0.0
    return [(_clock(at_s(event)), f"{at_s(event) - start:+.2f} s", event.what, event.detail)
            for event in incident.timeline]


def _actions(done: Sequence[Action], commands: int) -> str:
    if not done:
        return "None." if not commands else f"The notes of {commands} commands are gone."
    left_out = (f"{commands - len(done)} of {commands} commands are left out: of a long incident the first steps and "
                "the last are kept.\n\n") if len(done) < commands else ""
    return left_out + _table(("action", "time (UTC)", "command", "answered", "outcome"),
                  [(one.name, _clock(one.at_s), one.command_id, one.answered or "no answer", one.outcome)
                   for one in done])


def _verdict(incident: Incident) -> str:
    state = IncidentState.Name(incident.state).removeprefix("INCIDENT_STATE_").lower()
    return f"{state.capitalize()}: {_plain(incident.verdict)}." if incident.verdict else f"{state.capitalize()}."


def _figure(value: float | None, why: str) -> str:
    return f"{value:.2f}" if value is not None else why


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_plain(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text of others as it is: none of it is markup or an address to follow, and it stays on its line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def _code(text: str) -> str:
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _time(moment: float | None) -> str:
    return "an unknown day" if moment is None else datetime.fromtimestamp(moment, UTC).strftime(
        "%Y-%m-%d at %H:%M:%S UTC")


def _clock(moment: float | None) -> str:
    if moment is None:
        return ""
    return datetime.fromtimestamp(moment, UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
