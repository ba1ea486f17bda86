"""Decides which lanes a run is started for. No Dagster and no I/O: the sensor `kafka_lag` brings both."""
