"""A small shop to click through by hand, and pages that show what the pipeline made of the visit."""
