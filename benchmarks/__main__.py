"""`./run bench [NAME…] [--quick] [--json FILE]`: a table and a plot of each benchmark, on separate servers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import click
from rich.console import Console

NAMES = ("stages", "events", "tax", "peers", "backlog", "steady", "memory", "flush", "lanes", "start", "collector")
# Wide enough for every table: rich cuts figures off in a narrow terminal, and treats a pipe like one.
WIDTH = 160
out, notes = Console(width=max(WIDTH, Console().width)), Console(stderr=True)


@click.command(
    help=f"Measure {', '.join(NAMES)}; all of them if none is named.\n\nOn two cores peers takes half an hour, backlog"
    " and steady 20 minutes each, memory 10, and each of the others less than five."
)
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--quick", is_flag=True, help="Fewer messages: minutes instead of an hour and a half, noisier figures.")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures to a file, too."
)
def main(names: tuple[str, ...], quick: bool, file: Path | None) -> None:
    """Run benchmarks one after the other."""
    figures: dict[str, dict[str, float]] = {}
    for name in names or NAMES:
        outcome = importlib.import_module(f"benchmarks.{name}").run(quick, lambda line: notes.print(line, style="dim"))
        out.print(outcome.table())
        figures[name] = outcome.figures
        # The figures of a quick run do not replace the documented ones.
        if not quick:
            out.print(f"plot: {outcome.save_plot(name).relative_to(Path.cwd())}")
        if file:
            file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main(prog_name="./run bench")
