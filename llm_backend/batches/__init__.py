"""Batches: many tasks asked for at once, worked off side by side, answered or delivered."""
