"""Merge facts about orders into a value that does not depend on the order in which records arrive. No I/O."""
