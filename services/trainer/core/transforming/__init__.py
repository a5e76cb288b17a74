"""Columns that a Pipeline asks for beside the plain ones: of numbers, of categories and of texts."""
