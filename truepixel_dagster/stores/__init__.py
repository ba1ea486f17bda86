"""The stores' adapters."""
