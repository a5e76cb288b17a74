"""What torch.onnx.export really writes, weights beside the file, becomes a version that answers as the network did."""

from pathlib import Path

from examples import alone
from examples.brought import network
from lepton_ai._library.importing import of_file
from services.trainer import worker
from services.trainer.core.learning import Given
from services.trainer.core.plan import Imported


def test_a_network_exported_by_torch_is_taken_in_and_measured(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    network.write(path)
    assert path.with_name("network.onnx.data").is_file()
    of, rows = alone.spec("phishing"), network.rows()
    plan = alone.plan(of).model_copy(update={"imported": Imported(classes=("false", "true"))})
    found = worker.brought(plan, Given(alone.table(of, rows)), of_file(path, ["false", "true"]).data)
    assert found.metrics["accuracy"] > 0.88
    said = alone.answers(of, found.exported.data, rows)["label"]
    assert (said == [row["is_phishing"] for row in rows]).mean() > 0.9
