"""Routes of the library of models: tags, retirement, collection and history."""
