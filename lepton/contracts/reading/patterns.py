"""Regular expressions that come from outside, searched for in time linear in the text whatever the expression (RE2)."""

from collections.abc import Iterator, Sequence

from lepton.errors import Invalid

MAX_PATTERN: int = 4096
"""Characters."""
REMEDY = ("write it as RE2 has it (github.com/google/re2/wiki/Syntax): without look-around and references to groups, "
          "\\z for \\Z, \\pL for letters beyond ASCII")


class Pattern:
    """Named groups found anywhere in a text. `\\w`, `\\d`, `\\s` and `\\b` mean ASCII, as in RE2.

    Raises Invalid, without a field, for what RE2 does not take, for two groups of one name, and where no group is
    named.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise Invalid(f"is longer than {MAX_PATTERN} characters", remedy="match less of the line")
        if "\\C" in (part for part, _ in _parts(text)):
            raise Invalid("is no regular expression: \\C may take half a character", remedy="write . for a character")
        # Whoever reads Pipelines imports this; most have no pattern, and Arrow is large.
        import pyarrow as pa
        import pyarrow.compute as pc

        self._text = _without_numbers(text)
        try:
            names = pc.extract_regex_span(pa.array([], pa.string()), self._text).type.names
        except (pa.ArrowException, UnicodeError) as error:
            raise Invalid(f"is no regular expression: {_reason(error)}", remedy=REMEDY) from error
        if not names:
            raise Invalid("has no named group", remedy="name what becomes a member: (?P<member>…)")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Invalid(f"has two groups called {twice}", remedy="give each group a name of its own")
        self.names: tuple[str, ...] = tuple(names)

    def search(self, lines: Sequence[bytes]) -> list[dict[str, str] | None]:
        """Of each line, which is UTF-8, the groups of its first match that took part in it; None without a match."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = pa.array(lines, pa.binary()).cast(pa.string())
        spans = pc.extract_regex_span(texts, self._text)
        return [None if found is None else
                {name: line[span[0]:span[0] + span[1]].decode() for name, span in found.items() if span is not None}
                for line, found in zip(lines, spans.to_pylist(), strict=True)]


def _reason(error: Exception) -> str:
    return str(error).removeprefix("Invalid regular expression: ")[:300]


def _without_numbers(text: str) -> str:
    """The same with groups that have no name not kept: only named ones are asked for, and Arrow takes no others."""
    return "".join("(?:" if part == "(" and not text.startswith("?", end) else part for part, end in _parts(text))


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """Escapes, quotations and classes whole, everything else character by character, each with where it ends."""
    at = 0
    while at < len(text):
        end = at + 1
        if text.startswith("\\Q", at):
            close = text.find("\\E", at)
            end = len(text) if close < 0 else close + 2
        elif text[at] == "\\":
            end = at + 2
        elif text[at] == "[":
            end = _class_end(text, at)
        yield text[at:end], end
        at = end


def _class_end(text: str, at: int) -> int:
    """Behind the bracket that closes the class; one that comes first in it stands for itself."""
    at += 2 if text.startswith("[^", at) else 1
    first = True
    while at < len(text) and (first or text[at] != "]"):
        if text.startswith("[:", at) and (close := text.find(":]", at)) > 0:
            at = close + 2
        else:
            at += 2 if text[at] == "\\" else 1
        first = False
    return at + 1
