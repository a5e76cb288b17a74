"""What the documentation's pages tell people to type: the commands of their console blocks, one by one."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Each as a shell would split it, in the order of the page. What a block shows as printed is left out."""
    return [shlex.split(command, comments=True) for block in _BLOCK.findall(page.read_text("utf-8"))
            for command in _typed(block)]


def _typed(block: str) -> Iterator[str]:
    command = ""
    for line in block.splitlines():
        if not command and not line.startswith("$ "):
            continue
        command += ("\n" if command else "") + (line if command else line.removeprefix("$ "))
        if _whole(command):
            yield command.replace("\\\n", " ")
            command = ""


def _whole(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:  # a quotation that goes on in the next line
        return False
    return not command.endswith("\\")
