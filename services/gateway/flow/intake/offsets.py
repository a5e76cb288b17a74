"""Where in a file its sender is to go on."""

from lepton.errors import Refused


class WrongOffset(Refused):
    """The bytes are not the next ones; `offset` says from where to go on."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the next byte wanted is number {offset}", field="offset",
                         remedy=f"send the file from offset {offset} on")
        self.offset = offset
