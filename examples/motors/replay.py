"""Sends the recordings of examples/motors through a running Lepton and prints how many failures are foreseen.

    python -m examples.motors.replay
"""

import argparse
import sys

from examples import late_labels
from examples.motors.data import LEARNT_FROM, recordings


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = recordings()
    return late_labels.main("motors", "examples/motors", rows[:LEARNT_FROM], rows[LEARNT_FROM:])


if __name__ == "__main__":
    sys.exit(main())
