"""Faults on purpose: what the pipeline promises is tried by killing, freezing and cutting off what it is made of."""
