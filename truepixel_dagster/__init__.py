"""Shopify pixel events and webhooks, from Kafka to attributions, customers and product statistics, run by Dagster."""
