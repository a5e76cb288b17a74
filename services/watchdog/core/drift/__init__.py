"""Whether rows and answers still look as they did: shapes of fields, distances between them, and change over time."""
