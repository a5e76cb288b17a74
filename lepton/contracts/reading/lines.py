"""Knows how the text of a Pipeline becomes plain data that remembers its lines, and how data becomes text again.

YAML 1.2's core schema is read, so `no` is the text "no" (YAML 1.1 makes it false), `1e-3` is a number and no
scalar is ever a date.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml

PathKey = tuple[str | int, ...]
MAX_BYTES = 262_144  # far above any pipeline; keeps a hostile text from taking the process with it
MAX_NODES = 20_000
MAX_DEPTH = 32

_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
_RESOLVERS: list[tuple[str, re.Pattern[str], list[str]]] = [
    ("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    ("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789.")),
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a Pipeline. `line` counts from 1; 0 when the source has no lines (JSON, objects)."""

    path: str
    line: int
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}, {self.path}" if self.line else self.path
        return f"{where}: {self.message}" + (f" ({self.remedy})" if self.remedy else "")


@dataclass(frozen=True, slots=True)
class Source:
    """Plain data with the line each path stood on."""

    data: Any
    lines: dict[PathKey, int]

    def line(self, path: PathKey) -> int:
        """Line of `path`, or of the nearest thing around it that was written."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 0)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own class table


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own class table

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def path_text(path: PathKey) -> str:
    """`("heal", "notify", 0)` as `heal.notify[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text or "(document)"


def read(text: str) -> tuple[Source, list[Problem]]:
    """Data of a YAML (or JSON) text and what is wrong with the text itself; the data holds whatever could be read."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Source(None, {}), [Problem("(document)", 0, f"the text is longer than {MAX_BYTES} bytes",
                                          "a Pipeline is a page of text")]
    try:
        walk = _Walk(_Loader(text))
        data = walk.document()
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 0
        return Source(None, {}), [Problem("(document)", line, f"not readable as YAML: {error.problem}",
                                          "check indentation, quotes and brackets on this line")]
    except yaml.YAMLError as error:
        return Source(None, {}), [Problem("(document)", 0, f"not readable as YAML: {str(error).splitlines()[0]}")]
    except RecursionError:
        return Source(None, {}), [Problem("(document)", 0, f"nested deeper than {MAX_DEPTH} levels")]
    return Source(data, walk.lines), walk.problems


def write(data: Any) -> str:
    """Block-style YAML that `read` gives back unchanged."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


class _Walk:
    """Builds values from composed nodes, so that every path keeps its line and a repeated key is seen."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._nodes = 0
        self.lines: dict[PathKey, int] = {}
        self.problems: list[Problem] = []

    def document(self) -> Any:
        node = self._loader.get_single_node()
        return None if node is None else self.value(node, ())

    def value(self, node: yaml.Node, path: PathKey) -> Any:
        self._nodes += 1  # counted by visit, so aliases that multiply are bounded too
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="too many or too deep values", problem_mark=node.start_mark)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node, deep=True)
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error

    def _mapping(self, node: yaml.MappingNode, path: PathKey) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(path_text(path), line, "a key must be plain text"))
                continue
            # Keys are always text: `us:` and `1:` alike name a field or a setting.
            key = str(key_node.value)
            if key in found:
                self.problems.append(Problem(path_text((*path, key)), line, "the key appears twice",
                                             "keep one of them"))
                continue
            self.lines[(*path, key)] = line
            found[key] = self.value(value_node, (*path, key))
        return found
