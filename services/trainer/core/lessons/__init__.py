"""One module a task: which rows teach what, and how good the exported file's answers to the held-out ones are."""
