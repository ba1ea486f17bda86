"""What an analyst asks, answered by day: spend, marketing, funnels. Without any I/O and without Dagster."""
