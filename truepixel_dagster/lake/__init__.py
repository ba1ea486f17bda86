"""Tables as Parquet files by day and shop, on a disk or in object storage; read by this package and by any SQL engine."""
