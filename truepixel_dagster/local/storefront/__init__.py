"""Serve a small shop to click through by hand, and pages that show the resulting orders and report."""
