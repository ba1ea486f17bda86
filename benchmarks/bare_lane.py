"""Process a lane by a bare loop, without Dagster: `python -m benchmarks.bare_lane`, settings from the environment.

Prints its figures as one line of JSON: messages, messages a minute, latencies, seconds of each stage.
"""

from __future__ import annotations

import json
import sys

from truepixel_dagster.pipeline.lane_claim import claim_lane
from truepixel_dagster.pipeline.run_metrics import peak_memory
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.settings import load_settings


def one_batch(lane: LaneRunner) -> bool:
    """Pass one micro-batch through the stages, as the ops do; return whether there was one."""
    fetched = lane.fetch()
    if fetched is None:
        return False
    done = lane.attribution(lane.ad_lead(lane.index(fetched)))
    lane.customer(done)
    lane.product_stats(done)
    lane.commit(fetched)
    return True


def main() -> None:
    """Process as many micro-batches as a run of Dagster would plan."""
    with claim_lane(load_settings(), lane=0, lanes=1, owner="bare") as claim:
        planned = claim.planned_batches()
        with claim.taken() as lane:
            for _ in range(planned):
                if not one_batch(lane):
                    break
            metrics = lane.finish()
    # Measure from the first messages to the last commit, as for a run through Dagster.
    seconds = (metrics.committed or 0.0) - (metrics.received or 0.0)
    figures = {
        "messages": metrics.messages,
        "per_minute": 60 * metrics.messages / max(seconds, 1e-9),
        "latencies": metrics.latencies,
        "stage_seconds": dict(metrics.stage_seconds),
        "peak_mib": peak_memory() / 2**20,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
