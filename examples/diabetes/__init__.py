"""Patients of a clinic as rows of a growing SQL table, which Lepton pulls: how their diabetes goes on is the label."""
