"""`python -m truepixel_dagster.cli`."""

from truepixel_dagster.cli.main import main

if __name__ == "__main__":
    main()
