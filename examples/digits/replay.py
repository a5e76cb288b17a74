"""Sends scikit-learn's digits through a running Lepton and prints how many the served model reads rightly.

    python -m examples.digits.replay
"""

import argparse
import sys

from examples import late_labels
from examples.digits.data import LEARNT_FROM, images


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = images()
    return late_labels.main("digits", "scikit-learn/digits", rows[:LEARNT_FROM], rows[LEARNT_FROM:])


if __name__ == "__main__":
    sys.exit(main())
