"""What a partition's memory is written as."""

StateRecord = tuple[bytes, bytes]
"""Key and value of a record of the state topic; the newest value of a key counts."""
