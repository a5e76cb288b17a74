"""How good the rows of each source are: the share of bad ones lately, against what is usual for the pipeline."""

from collections import deque
from dataclasses import dataclass, field

from services.watchdog.core.inputs import Rules
from services.watchdog.core.summaries.counts import RowsSeen, SourceRows

# Weight of one interval in what is usual; about a minute of two-second intervals.
USUAL_WEIGHT = 0.03
# A source not heard of for this long is left out of the decision whether others still deliver.
FORGET_S = 86_400.0

# What was seen of all sources longer ago is another time.
ALONE_GAP_S = 60.0


@dataclass(frozen=True, slots=True)
class Share:
    """Bad rows of a source within the window."""

    rows: int
    bad: float

    @property
    def value(self) -> float:
        return self.bad / self.rows if self.rows else 0.0


@dataclass(slots=True)
class Sources:
    """One pipeline's sources.

    Some outliers and absent values are usual; only what exceeds the usual share, learnt from intervals without a bad
    source, makes rows bad. Rejected rows always are.
    """

    recent: deque[tuple[float, SourceRows]] = field(default_factory=deque)
    usual: float | None = None
    learnt_rows: int = 0
    delivered_at: dict[str, float] = field(default_factory=dict)
    """By source, when it last delivered a window that was good."""
    alone_since: float | None = None
    """Since when no source has delivered good rows."""
    alone_at: float = 0.0
    """When that was seen last."""
    turned_away: float = 0.0
    """Share of all rows within the newest window that were rejected."""

    def see(self, seen: RowsSeen, rules: Rules, now: float) -> None:
        """Take in a summary, as of when its interval ended; summaries read late are judged as of then."""
        at = now - seen.age_s
        for rows in seen.sources:
            self.recent.append((at, rows))
        self._prune(at, rules)
        shares = {rows.source: self.share(rows.source, rules, at) for rows in seen.sources}
        for source, share in shares.items():
            # Fewer rows than it takes to blame a source are enough to say that it delivers.
            if share.rows >= max(1, rules.min_rows // 5) and share.value <= rules.bad_share:
                self.delivered_at[source] = at
        self.turned_away = self._rejected(rules, now)
        self._look_alone(shares, rules, now)
        # Without a field that is quarantined fewer rows are incomplete than will be again.
        if all(share.value <= rules.bad_share for share in shares.values()) and not any(
                one.quarantined for one in seen.fields):
            self._learn(seen, rules)

    def share(self, source: str, rules: Rules, now: float, since: float = 0.0) -> Share:
        """Of the rows that came within the window, and not before `since`."""
        total, bad = 0, 0.0
        for at, rows in self.recent:
            if rows.source == source and at >= max(since, now - rules.window_s):
                total += rows.accepted + rows.rejected
                bad += rows.rejected + self._unusual(rows)
        return Share(total, bad)

    def bad(self, rules: Rules, now: float) -> dict[str, Share]:
        """Sources whose share of bad rows is a symptom."""
        names = sorted({rows.source for _, rows in self.recent})
        shares = {name: self.share(name, rules, now) for name in names}
        return {name: share for name, share in shares.items()
                if share.rows >= rules.min_rows and share.value > rules.bad_share}

    def others_deliver(self, source: str, bad: dict[str, Share], now: float) -> bool:
        """Whether a source besides `source` has delivered good rows and is not bad itself."""
        return any(other != source and other not in bad and now - at <= FORGET_S
                   for other, at in self.delivered_at.items())

    def _look_alone(self, shares: dict[str, Share], rules: Rules, now: float) -> None:
        """Too few rows to say neither begin nor end it."""
        if self.alone(rules, now):
            if self.alone_since is None or now - self.alone_at > ALONE_GAP_S:
                self.alone_since = now
            self.alone_at = now
        elif any(share.rows >= rules.min_rows for share in shares.values()):
            self.alone_since = None

    def alone(self, rules: Rules, now: float) -> dict[str, Share]:
        """The bad sources besides which no other delivers good rows."""
        bad = self.bad(rules, now)
        return {name: share for name, share in bad.items() if not self.others_deliver(name, bad, now)}

    def whole(self, rules: Rules, now: float, since: float = 0.0) -> Share:
        """As `share`, of all sources together."""
        shares = [self.share(name, rules, now, since) for name in sorted({rows.source for _, rows in self.recent})]
        return Share(sum(share.rows for share in shares), sum(share.bad for share in shares))

    def _rejected(self, rules: Rules, now: float) -> float:
        recent = [rows for at, rows in self.recent if at >= now - rules.window_s]
        total = sum(rows.accepted + rows.rejected for rows in recent)
        return sum(rows.rejected for rows in recent) / total if total else self.turned_away

    def _unusual(self, rows: SourceRows) -> float:
        if self.usual is None:
            return 0.0
        flagged = min(rows.accepted, rows.outliers + rows.missing)
        return max(0.0, flagged - self.usual * rows.accepted)

    def _learn(self, seen: RowsSeen, rules: Rules) -> None:
        accepted = sum(rows.accepted for rows in seen.sources)
        if not accepted:
            return
        flagged = sum(min(rows.accepted, rows.outliers + rows.missing) for rows in seen.sources) / accepted
        self.learnt_rows += accepted
        if self.usual is None:
            # Until enough rows came, nothing is unusual: the first rows of a pipeline say what is.
            self.usual = flagged if self.learnt_rows >= rules.min_rows else None
        else:
            self.usual += USUAL_WEIGHT * (flagged - self.usual)

    def _prune(self, now: float, rules: Rules) -> None:
        # Twice the window: a verification may look back past the newest window.
        while self.recent and self.recent[0][0] < now - 2 * rules.window_s:
            self.recent.popleft()
