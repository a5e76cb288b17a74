"""Where the real rows of examples lie: files of packages pinned in requirements/examples.lock.

`make setup` puts the packages into .local/examples, without what their own code would need; that code is never run.
"""

from pathlib import Path

from lepton.errors import Missing

FOLDER = Path(__file__).parents[1] / ".local" / "examples"


def bundled(path: str, folder: Path = FOLDER) -> Path:
    """The file that a package brings, by its path from the folder of packages. Raises Missing."""
    found = folder / path
    if not found.is_file():
        raise Missing("the package that brings this example's rows is not installed", place=str(found),
                      remedy="run `make setup`, which installs requirements/examples.lock")
    return found
