"""How raw events become typed rows: what is read, repaired and refused."""
