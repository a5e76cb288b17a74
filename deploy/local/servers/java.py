"""Which Java runs the broker, and what to say when there is none fit for it."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lepton.errors import Unavailable

MINIMUM = 17  # Kafka 4 needs it
_REMEDY = f"install a JDK {MINIMUM} or newer (Debian: apt-get install openjdk-{MINIMUM}-jdk-headless) or set JAVA_HOME"


@dataclass(frozen=True)
class Java:
    """A usable `java` and the version text that tells one build from another."""

    binary: Path
    release: int
    text: str


@cache
def find() -> Java:
    """`$JAVA_HOME/bin/java`, else the one on PATH; raises Unavailable when there is none or it is too old."""
    home = os.environ.get("JAVA_HOME")
    found = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if found is None or not Path(found).exists():
        where = f"JAVA_HOME={home}" if home else "PATH"
        raise Unavailable("no Java was found, and the Kafka broker runs on it", place=where, remedy=_REMEDY)
    text = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    release = int(match.group(1)) if match else 0
    if release < MINIMUM:
        raise Unavailable(f"Java {release or '?'} is too old: the Kafka broker needs {MINIMUM}", place=found,
                          remedy=_REMEDY)
    return Java(Path(found), release, text)
