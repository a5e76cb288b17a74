"""Writes river's Phishing (1,250 websites, in river's order) as a file of rows with labels.

    python -m examples.phishing.write phishing.csv       or .jsonl, .parquet
"""

from typing import Any

from river.datasets import Phishing

from examples.writing import main


def websites() -> list[dict[str, Any]]:
    """One row a website."""
    return [{**told, "is_phishing": bool(phishing)}
            for told, phishing in Phishing()]


if __name__ == "__main__":
    main(__doc__, websites(), "websites")
