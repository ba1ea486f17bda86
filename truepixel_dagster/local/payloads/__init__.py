"""The shapes of Shopify's payloads: web pixel events and webhooks as bytes of JSON, from what happened in a shop."""
