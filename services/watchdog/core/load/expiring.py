"""How long keys and certificates still hold, as those say who trust them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.watchdog.core.symptom import CERTIFICATE, Symptom


@dataclass(slots=True)
class Expiring:
    """Days left by what they are of and who says so: not everybody may have been given the new one yet."""

    _days: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """By certificate and instance: days, and when it was said."""

    def see(self, certificate: str, instance: str, days: float, now: float) -> None:
        self._days.setdefault(certificate, {})[instance] = days, now

    def forget(self, before: float) -> None:
        """What was not said again since then."""
        for certificate, told in list(self._days.items()):
            kept = {instance: one for instance, one in told.items() if one[1] >= before}
            if kept:
                self._days[certificate] = kept
            else:
                del self._days[certificate]

    def symptoms(self, limit_days: float) -> Iterator[Symptom]:
        """One of each that holds for fewer than `limit_days`, naming who trusts it."""
        for certificate, told in sorted(self._days.items()):
            short = {instance: days for instance, (days, _) in told.items() if days < limit_days}
            if not short:
                continue
            least = min(short.values())
            held = f"expires in {least:.0f} days" if least >= 0 else f"expired {-least:.0f} days ago"
            yield Symptom(CERTIFICATE, certificate, f"{certificate} {held}; trusted by {', '.join(sorted(short))}")
