"""Scikit-learn's breast tumours: a disease told from measures of cells, with a card and what each measure did."""
