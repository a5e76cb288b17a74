"""Runs an exported version without a platform: Python's own library, onnxruntime, and the numpy that it brings.

    python predict.py rows.jsonl > answers.jsonl

Rows are JSON objects of fields, one a line, in the files named, or on standard input. A field left out or null is
missing. Each answer is one line, the same as the platform's. Never imported by it: exported beside the model as it is.
"""

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

MISSING = "_missing"
TYPES = {"BOOL": np.bool_, "INT64": np.int64, "INT32": np.int32, "FP64": np.float64, "FP32": np.float32,
         "BYTES": np.object_}
BATCH = 256
ERRORS_ONLY = 3  # onnxruntime would warn of every field that may be left out


class Wrong(Exception):
    """What cannot be answered, for whoever asked."""


def main(arguments: list[str]) -> int:
    try:
        model = Model(Path(__file__).resolve().parent)
        rows: list[dict[str, Any]] = []
        for number, row in enumerate(read(arguments), 1):
            rows.append(model.checked(row, number))
            if len(rows) == BATCH:
                write(model.answers(rows))
                rows = []
        if rows:
            write(model.answers(rows))
    except (Wrong, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def read(paths: list[str]) -> Any:
    """Rows of each file in turn, or of standard input."""
    texts = (Path(path).read_text("utf-8").splitlines() for path in paths) if paths else [sys.stdin]
    for lines in texts:
        for line in lines:
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise Wrong(f"a line is no JSON: {error}") from error
                if not isinstance(row, dict):
                    raise Wrong("a line is no JSON object of fields")
                yield row


def write(answers: list[dict[str, Any]]) -> None:
    sys.stdout.writelines(json.dumps(answer) + "\n" for answer in answers)


class Model:
    """The ONNX file of a folder, and its manifest, which says what the file takes and gives."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        data = (folder / "model.onnx").read_bytes()
        if hashlib.sha256(data).hexdigest() != self.manifest["sha256"]:
            raise Wrong("model.onnx is not the file that manifest.json names")
        self.fields = {one["name"]: one for one in self.manifest["inputs"] if one["name"] != MISSING}
        self.masked = len(self.fields) < len(self.manifest["inputs"])
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def checked(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        unknown = sorted(set(row) - set(self.fields))
        if unknown:
            raise Wrong(f"row {number}: the model takes no field {unknown[0]}; it takes {', '.join(self.fields)}")
        for name, field in self.fields.items():
            value = row.get(name)
            if value is None and not self.masked and not field["datatype"].startswith("FP"):
                raise Wrong(f"row {number}: the model cannot do without {name}")
            if value is not None and not fits(value, field):
                raise Wrong(f"row {number}: {name} takes {field['datatype']} {field['shape']}, not {value!r}")
        return row

    def answers(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        feed = {name: tensor(field, [row.get(name) for row in rows]) for name, field in self.fields.items()}
        if self.masked:
            feed[MISSING] = np.array([[row.get(name) is None for name in self.fields] for row in rows], np.bool_)
        names = [one["name"] for one in self.manifest["outputs"]]
        found = dict(zip(names, self.session.run(names, feed), strict=True))
        return [self.answer({name: array[place] for name, array in found.items()}) for place in range(len(rows))]

    def answer(self, found: dict[str, Any]) -> dict[str, Any]:
        if "prediction" in found:
            return {"number": float(found["prediction"]),
                    **{name: float(found[name]) for name in ("low", "high") if name in found}}
        said: dict[str, Any] = {"label": text(found["label"])}
        for name in ("probabilities", "values"):
            if name in found:
                said[name] = dict(zip(self.manifest["classes"], found[name].tolist(), strict=True))
        if "items" in found:
            said["top"] = [{"item": text(item), "score": score}
                           for item, score in zip(found["items"], found["scores"].tolist(), strict=True)]
        if "score" in found:
            said["score"] = float(found["score"])
        return said


def fits(value: Any, field: dict[str, Any]) -> bool:
    kind, tail = field["datatype"], [int(size) for size in field["shape"][1:]]
    if tail:
        return (isinstance(value, list) and all(number(one) for one in value)
                and (len(value) == tail[0] or (bool(field.get("padded")) and len(value) < tail[0])))
    if kind == "BYTES":
        return isinstance(value, str)
    if kind == "BOOL":
        return isinstance(value, bool)
    return number(value) and (kind.startswith("FP") or float(value).is_integer())


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tensor(field: dict[str, Any], values: list[Any]) -> Any:
    """[rows] or [rows, length]; what is missing is NaN, zero, false or an empty text, and so is the end of a list."""
    kind = TYPES[field["datatype"]]
    empty = math.nan if field["datatype"].startswith("FP") else "" if kind is np.object_ else 0
    array: Any = np.full([len(values), *(int(size) for size in field["shape"][1:])], empty, kind)
    for place, value in enumerate(values):
        if isinstance(value, list):
            array[place, :len(value)] = value
        elif value is not None:
            array[place] = value
    return array


def text(label: Any) -> str:
    return ("true" if label else "false") if isinstance(label, np.bool_) else str(label)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
