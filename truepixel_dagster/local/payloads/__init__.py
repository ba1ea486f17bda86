"""Shopify's payloads: web pixel events and webhooks as JSON, built from shops, visitors and orders."""
