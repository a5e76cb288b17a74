"""The five outcomes a request or message can have besides success; anything else raised is a bug."""


class LeptonError(Exception):
    """One outcome, said so that a person can act on it.

    Args:
        message: what is true of the message or the world, one sentence.
        field: name of the offending field or setting, when there is one.
        place: where it was found (`topic/partition@offset`, `line 12, model.family`, a path).
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, field: str | None = None, place: str | None = None, remedy: str | None = None):
        super().__init__(message)
        self.message = message
        self.field = field
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.message]
        if self.field:
            parts.append(f"field: {self.field}")
        if self.place:
            parts.append(f"at: {self.place}")
        if self.remedy:
            parts.append(f"remedy: {self.remedy}")
        return "; ".join(parts)


class Invalid(LeptonError):
    """The message can never be accepted as it is; repeating it gives the same answer."""


class Missing(LeptonError):
    """What the message names does not exist (yet)."""


class Refused(LeptonError):
    """The message is well formed but not allowed: rights, signature, fence, state or expiry."""


class Busy(LeptonError):
    """Too much at once; the same message may succeed after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0, field: str | None = None,
                 place: str | None = None, remedy: str | None = None):
        super().__init__(message, field=field, place=place, remedy=remedy)
        self.retry_after_s = retry_after_s


class Unavailable(LeptonError):
    """A part the answer depends on cannot be reached now; the same message may succeed later."""
