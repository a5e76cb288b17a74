"""Sends the requests of examples/requests through a running Lepton and prints how many are understood.

    python -m examples.requests.replay
"""

import argparse
import sys

from examples import late_labels
from examples.requests.data import LEARNT_FROM, requests


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = requests()
    return late_labels.main("requests", "examples/requests", rows[:LEARNT_FROM], rows[LEARNT_FROM:])


if __name__ == "__main__":
    sys.exit(main())
