"""What the pipeline costs and achieves, measured on the genuine servers: `./run bench`."""
