"""The Faust stage that rolls quality summaries up."""
