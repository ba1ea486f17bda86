"""What the pipeline costs and takes, measured on the genuine servers: `./run bench`."""
