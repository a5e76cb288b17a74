"""How the text of a Pipeline is read: with its lines, and with everything that must hold between its blocks."""
