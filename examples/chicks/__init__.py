"""Weighings of chicks: windows over a chick's own weighings say how it grew, its next weight is the label."""
