"""Which sizes keep this code readable, and where it is past them; `python -m tools.budget` fails at the last figure.

Generated code is left out. Functions are counted from `def` to their last line.
"""

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("lepton", "lepton_ai", "services", "deploy", "tools", "examples")
TESTS = ("tests",)
GENERATED = ROOT / "lepton" / "contracts" / "pb"
OWN = ("lepton", "lepton_ai", "services", "deploy", "tools", "examples", "tests")
FORBIDDEN_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"})

FILE_WARN, FILE_FAIL, FILE_MEDIAN = 300, 400, 120
FUNCTION_FAIL, FUNCTION_MEDIAN, FUNCTION_P90 = 60, 8, 28
IMPORTS_P90 = 6
FOLDER_FAIL = 12
DEPTH_FAIL = 4
CONSTRUCTOR_FAIL = 7
SETTINGS_FAIL = 25
CHAIN_FAIL = 12

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file, read and parsed once."""

    path: Path
    lines: int
    tree: ast.Module

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def module(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


@dataclass(frozen=True)
class Findings:
    """`failures` break the build, `warnings` are to be read, `figures` describe the whole."""

    failures: list[str]
    warnings: list[str]
    figures: list[str]


def sources(folders: tuple[str, ...]) -> list[Source]:
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if GENERATED not in path.parents:
                text = path.read_text("utf-8")
                found.append(Source(path, text.count("\n"), ast.parse(text)))
    return found


def check() -> Findings:
    product, tests = sources(PRODUCT), sources(TESTS)
    findings = Findings([], [], [])
    for source in product + tests:
        _check_file(source, findings)
    for source in product:
        _check_classes(source, findings)
    _check_folders(product, findings)
    _check_whole(product, findings)
    return findings


def _check_file(source: Source, findings: Findings) -> None:
    if source.path.stem in FORBIDDEN_NAMES:
        findings.failures.append(f"{source.shown}: name it after what it holds")
    if source.lines > FILE_FAIL:
        findings.failures.append(f"{source.shown}: {source.lines} lines, {FILE_FAIL} at most")
    elif source.lines > FILE_WARN:
        findings.warnings.append(f"{source.shown}: {source.lines} lines, better {FILE_WARN}")
    for function in source.functions():
        if (length := _length(function)) > FUNCTION_FAIL:
            place = f"{source.shown}:{function.lineno}"
            findings.failures.append(f"{place}: {function.name} has {length} lines, {FUNCTION_FAIL} at most")


def _check_classes(source: Source, findings: Findings) -> None:
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        place = f"{source.shown}:{node.lineno}: {node.name}"
        for function in node.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                count = len(function.args.args) + len(function.args.kwonlyargs) - 1
                if count > CONSTRUCTOR_FAIL:
                    findings.failures.append(f"{place} takes {count} parameters, {CONSTRUCTOR_FAIL} at most")
        if any(isinstance(parent, ast.Name) and parent.id.endswith("Settings") for parent in node.bases):
            count = sum(isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation)
                        for line in node.body)
            if count > SETTINGS_FAIL:
                findings.failures.append(f"{place} has {count} settings of its own, {SETTINGS_FAIL} at most")


def _check_folders(product: list[Source], findings: Findings) -> None:
    counts: dict[Path, int] = {}
    for source in product:
        counts[source.path.parent] = counts.get(source.path.parent, 0) + 1
    for folder, count in sorted(counts.items()):
        shown = folder.relative_to(ROOT)
        if count > FOLDER_FAIL:
            findings.failures.append(f"{shown}: {count} files, {FOLDER_FAIL} at most")
        if len(shown.parts) > DEPTH_FAIL:
            findings.failures.append(f"{shown}: {len(shown.parts)} folders deep, {DEPTH_FAIL} at most")


def _check_whole(product: list[Source], findings: Findings) -> None:
    lengths = sorted(_length(function) for source in product for function in source.functions())
    imports = {source.module: _own_imports(source) for source in product}
    modules = set(imports)
    graph = {name: {target for target in targets if target in modules} for name, targets in imports.items()}
    chain = _longest_chain(graph)
    figures = {
        f"lines a file, median (≤ {FILE_MEDIAN})": statistics.median(source.lines for source in product),
        f"lines a function, median (≤ {FUNCTION_MEDIAN})": statistics.median(lengths),
        f"lines a function, 90th percentile (≤ {FUNCTION_P90})": _p90(lengths),
        f"own imports a file, 90th percentile (≤ {IMPORTS_P90})": _p90(sorted(map(len, graph.values()))),
        f"longest chain of imports (≤ {CHAIN_FAIL})": len(chain) - 1,
    }
    findings.figures.extend(f"{name}: {value:g}" for name, value in figures.items())
    if len(chain) - 1 > CHAIN_FAIL:
        findings.failures.append(f"{len(chain) - 1} imports in a row: {' > '.join(chain)}")


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _p90(ordered: list[int]) -> float:
    return ordered[int(len(ordered) * 0.9)]


def _own_imports(source: Source) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in OWN}


def _longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """The longest path; a cycle (import-linter's to report) is cut where it closes."""
    best: dict[str, list[str]] = {}

    def from_here(name: str, above: frozenset[str]) -> list[str]:
        if name not in best:
            below = [from_here(target, above | {name}) for target in graph[name] if target not in above | {name}]
            best[name] = [name, *max(below, key=len, default=[])]
        return best[name]

    return max((from_here(name, frozenset()) for name in graph), key=len)


def main() -> int:
    findings = check()
    for line in findings.figures:
        print(line)
    for line in findings.warnings:
        print(f"warning: {line}")
    for line in findings.failures:
        print(f"FAIL: {line}")
    return 1 if findings.failures else 0


if __name__ == "__main__":
    sys.exit(main())
