"""Decide for which lanes a run is started. Without Dagster and I/O, which the sensor `kafka_lag` adds."""
