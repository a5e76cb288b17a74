"""Teaches a plain torch network river's Phishing rows and exports it as torch does, to be imported into `phishing`.

    python -m examples.brought.network network.onnx      writes network.onnx, and its weights as network.onnx.data
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from river import datasets
from torch import nn

from lepton.contracts import pipeline

PIPELINE = Path(__file__).parents[1] / "phishing" / "pipeline.yaml"
STEPS = 300


def rows() -> list[dict[str, Any]]:
    """All 1,250, each with its label."""
    return [{**given, "is_phishing": bool(true), "event_id": f"row-{number:04d}"}
            for number, (given, true) in enumerate(datasets.Phishing())]


def write(path: Path) -> None:
    """The fields in the Pipeline's order go in [rows, fields]; a softmax makes probabilities of the scores."""
    fields = pipeline.parse(PIPELINE.read_text()).inputs
    given = torch.tensor([[float(row[name]) for name in fields] for row in rows()])
    true = torch.tensor([int(row["is_phishing"]) for row in rows()])
    torch.manual_seed(7)
    network = nn.Sequential(nn.Linear(len(fields), 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(given), true).backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
    answering = nn.Sequential(network, nn.Softmax(dim=-1)).eval()
    torch.onnx.export(answering, (given[:2],), path, dynamic_shapes=({0: "rows"},), verbose=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="file to write")
    write(parser.parse_args().path)


if __name__ == "__main__":
    main()
