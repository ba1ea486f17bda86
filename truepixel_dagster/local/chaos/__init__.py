"""Deliberate faults under load, to test what the pipeline promises: its processes are killed, frozen and cut off."""
