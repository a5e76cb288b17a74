"""What each pipeline's model promises its callers, and whether it keeps it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.watchdog.core.inputs import Requests, Rules
from services.watchdog.core.slo.burn import Burning
from services.watchdog.core.symptom import AVAILABILITY, LATENCY, Symptom
from services.watchdog.core.thresholds.limits import SloRule


@dataclass(slots=True)
class Promise:
    """One model's; None where its Pipeline promises nothing of the kind."""

    rule: SloRule
    availability: Burning | None = field(init=False)
    latency: Burning | None = field(init=False)

    def __post_init__(self) -> None:
        self.availability = Burning(self.rule.availability) if self.rule.availability is not None else None
        self.latency = Burning(self.rule.latency_share) if self.rule.latency_ms is not None else None

    def see(self, seen: Requests, now: float) -> None:
        if self.availability is not None:
            self.availability.add(seen.ok, seen.failed, now)
        if self.latency is not None and self.rule.latency_ms is not None:
            slow = sum(count for up_to_ms, count in seen.times if up_to_ms > self.rule.latency_ms)
            self.latency.add(sum(count for _, count in seen.times) - slow, slow, now)


@dataclass(slots=True)
class Promises:
    """Those of all pipelines."""

    by_pipeline: dict[str, Promise] = field(default_factory=dict)

    def rule(self, rules: Rules) -> None:
        known = self.by_pipeline.get(rules.pipeline)
        if rules.deleted or rules.slo is None:
            self.by_pipeline.pop(rules.pipeline, None)
        elif known is None or known.rule != rules.slo:
            self.by_pipeline[rules.pipeline] = Promise(rules.slo)

    def see(self, seen: Requests, now: float) -> None:
        promise = self.by_pipeline.get(seen.model)
        if promise is not None:
            promise.see(seen, now)

    def symptoms(self, now: float) -> Iterator[Symptom]:
        for name, promise in sorted(self.by_pipeline.items()):
            if promise.availability is not None and (told := promise.availability.look(now)):
                yield Symptom(AVAILABILITY, name, f"failed: {told}", name)
            if promise.latency is not None and (told := promise.latency.look(now)):
                yield Symptom(LATENCY, name, f"slower than {promise.rule.latency_ms:g} ms: {told}", name)
