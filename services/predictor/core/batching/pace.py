"""How long batches of a model take: by what its warm-up measured, corrected by what its batches took since.

`services/predictor/wire/src/pace.rs` does the same sums.
"""

WEIGHT = 0.2
"""Of the newest batch, in the logarithm of the correction."""

MOST = 4.0
"""What one batch may say at most: that the estimate is so many times too short, or too long. One that was held up by
something else so changes little, while what lasts is known within a dozen batches."""


class Pace:
    """Seconds of a batch are a line over its rows. Of what is not known (0 s) nothing is expected."""

    def __init__(self, single_s: float = 0.0, batch_s: float = 0.0, rows: int = 1) -> None:
        """`single_s` of a run of one row, `batch_s` of one of `rows` rows."""
        self._row_s = max(0.0, batch_s - single_s) / max(1, rows - 1)
        self._first_s = single_s
        self._correction = 1.0

    def of(self, rows: int) -> float:
        """Expected seconds of a batch of so many rows."""
        return self._correction * (self._first_s + self._row_s * (rows - 1))

    @property
    def line(self) -> tuple[float, float]:
        """Expected seconds of the first row, and of each further one."""
        return self._correction * self._first_s, self._correction * self._row_s

    def ran(self, rows: int, took_s: float) -> None:
        """Note what a batch took."""
        expected_s = self.of(rows)
        if expected_s > 0:
            self._correction *= min(MOST, max(1 / MOST, took_s / expected_s)) ** WEIGHT
