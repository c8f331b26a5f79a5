"""Labeling configs and replies: which controls there are, what they ask for, what a reply says. No I/O."""
