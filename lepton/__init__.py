"""Lepton's floor: what all five services stand on, and nothing that only one of them needs."""
