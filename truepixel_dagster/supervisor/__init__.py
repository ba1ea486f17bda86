"""Decide for which lanes a run is started, without Dagster and I/O: the sensor `kafka_lag` adds both."""
