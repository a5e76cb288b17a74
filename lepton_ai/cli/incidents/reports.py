"""The report of an incident, shown or written to a file with its picture beside it."""

import sys
from pathlib import Path
from urllib.parse import quote

from lepton.errors import Invalid
from lepton_ai._files.writing import writes
from lepton_ai._transport import Transport
from lepton_ai.cli.session import ask, say


def write(incident_id: str, out: Path | None) -> None:
    """Print the report, or write it to `out` and its timeline to the same name with `.svg`."""
    if out is None:
        sys.stdout.write(ask(lambda transport: _report(transport, incident_id, "")))
        return
    picture = out.with_suffix(".svg")
    if picture == out:
        raise Invalid("the report is Markdown; the picture is put beside it", field="--out", place=str(out),
                      remedy="name a file that ends in .md")

    async def read(transport: Transport) -> tuple[str, str]:
        return (await _report(transport, incident_id, quote(picture.name)),
                await transport.text(f"/v1/incidents/{incident_id}/timeline.svg"))
    text, drawn = ask(read)
    with writes(out, "--out"):
        picture.write_text(drawn, "utf-8")
        out.write_text(text, "utf-8")
    say(f"{incident_id}: report written to {out}, its timeline to {picture}")


async def _report(transport: Transport, incident_id: str, plot: str) -> str:
    return (await transport.call("GET", f"/v1/incidents/{incident_id}/report", params={"plot": plot})).text
