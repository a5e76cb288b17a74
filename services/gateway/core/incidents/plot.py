"""The timeline of an incident as a picture: an SVG that stands alone, without scripts, fonts or links."""

from xml.sax.saxutils import escape

from lepton.contracts.pb.incidents_pb2 import Incident
from services.gateway.core.incidents.course import at_s, seconds, times

WIDTH, LEFT, RIGHT = 900, 30, 30
ROW, TOP = 20, 96
MAX_LABEL = 90
COLOURS = {"detect": "#e07b39", "decide": "#3b82c4", "heal": "#2f9e77", "goes on": "#d1495b"}
TICKS = 6


def drawn(incident: Incident) -> str:
    """A bar with the times to detect, decide and heal over a scale in seconds, and one line for each step."""
    steps = [(at_s(event), event.what) for event in incident.timeline if event.at.seconds]
    spans = _spans(incident, [moment for moment, _ in steps])
    moments = [moment for moment, _ in steps] + [edge for _, start, end in spans for edge in (start, end)]
    first = min(moments, default=0.0)
    length = max(max(moments, default=0.0) - first, 1e-3)
    height = TOP + ROW * max(1, len(steps)) + 16

    def x(moment: float) -> float:
        return round(LEFT + (moment - first) / length * (WIDTH - LEFT - RIGHT), 1)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
             f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" role="img">',
             f"<title>Timeline of {_text(incident.incident_id)}</title>",
             f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for tick in range(TICKS + 1):
        moment = first + length * tick / TICKS
        anchor = "start" if tick == 0 else "end" if tick == TICKS else "middle"
        parts += [_line(x(moment), 60, height - 10, "#e4e6ea"),
                  _label(x(moment), 84, anchor, f"+{moment - first:.1f} s")]
    for place, (name, start, end) in enumerate(spans):
        parts += [f'<rect x="{x(start)}" y="40" width="{max(round(x(end) - x(start), 1), 1)}" height="22" '
                  f'fill="{COLOURS[name]}"/>',
                  f'<rect x="{LEFT + 200 * place}" y="14" width="12" height="12" fill="{COLOURS[name]}"/>',
                  _label(LEFT + 200 * place + 18, 24, "start", f"{name}: {end - start:.2f} s")]
    for row, (moment, what) in enumerate(steps):
        y = TOP + ROW * row + 10
        late = x(moment) > WIDTH / 2
        parts += [f'<circle cx="{x(moment)}" cy="{y}" r="4" fill="{_colour(what)}"/>',
                  _label(x(moment) + (-9 if late else 9), y + 4, "end" if late else "start",
                         f"+{moment - first:.2f} s  {what[:MAX_LABEL]}")]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _spans(incident: Incident, steps: list[float]) -> list[tuple[str, float, float]]:
    """(name, start, end) of what is known, one after the other."""
    opened, found = seconds(incident, "opened_at"), times(incident)
    if opened is None:
        return []
    spans = [] if found.detect_s is None else [("detect", opened - found.detect_s, opened)]
    commanded = None if found.decide_s is None else opened + found.decide_s
    if commanded is not None:
        spans.append(("decide", opened, commanded))
    closed, start = seconds(incident, "closed_at"), opened if commanded is None else commanded
    if closed is not None:
        spans.append(("heal" if commanded is not None else "goes on", start, closed))
    elif steps and max(steps) > start:
        spans.append(("goes on", start, max(steps)))
    return spans


def _colour(what: str) -> str:
    if what == "verified":
        return COLOURS["heal"]
    if what.startswith("commanded"):
        return COLOURS["decide"]
    return COLOURS["goes on"] if what in ("escalated", "asked") else "#5b6068"


def _line(x: float, top: float, bottom: float, colour: str) -> str:
    return f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="{colour}"/>'


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="#1f2328">{_text(text)}</text>'


def _text(text: str) -> str:
    """What XML takes: markup escaped, control characters left out."""
    return escape("".join(one for one in text if one.isprintable()))
