"""The form of a backup file: sealed chunks, the parts in them, and the manifest that says what they must be."""
