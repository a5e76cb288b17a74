"""The folder of a run, as the trainer lays it out for its worker."""

from pathlib import Path

import pyarrow as pa

from services.trainer import worker
from services.trainer.core.plan import Plan


def furnish(folder: Path, plan: Plan, rows: pa.Table) -> None:
    folder.mkdir(exist_ok=True)
    (folder / worker.PLAN).write_text(plan.to_json())
    with pa.ipc.new_file(folder / worker.DATA, rows.schema) as writer:
        writer.write_table(rows)
