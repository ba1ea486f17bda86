"""Compute the tables that answer an analyst's questions: spend, marketing, funnels. Without I/O and without Dagster."""
