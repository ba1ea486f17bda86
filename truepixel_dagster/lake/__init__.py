"""Store tables as Parquet files by day and shop, on a disk or in object storage, for this package and SQL engines."""
