"""Measure the pipeline's costs and performance on the real servers: `./run bench`."""
