"""The stages in order: every other list of stages is derived from this one.

    from truepixel_dagster.stages.stage import STAGES
    [stage.name for stage in STAGES if stage.in_background]  # ["customer", "product_stats"]

A new stage is a module beside this one and a line in `STAGES`. `pipeline/runner.py` calls it, or
`pipeline/background.py` if it runs in the background.
"""

from __future__ import annotations

from typing import NamedTuple

from truepixel_dagster import asset_keys


class Stage(NamedTuple):
    """Hold a stage.

    `asset` is what it writes. A stage `in_background` runs in parallel with the next micro-batch; the others run one
    after the other. If a stage `rejects`, an event that it cannot write becomes a dead letter.
    """

    name: str
    asset: str
    in_background: bool = False
    rejects: bool = True


INDEX, AD_LEAD, ATTRIBUTION = "index", "ad_lead", "attribution"
CUSTOMER, PRODUCT_STATS = "customer", "product_stats"

STAGES = (
    Stage(INDEX, asset_keys.EVENTS),
    Stage(AD_LEAD, asset_keys.AD_LEADS),
    Stage(ATTRIBUTION, asset_keys.ATTRIBUTIONS),
    Stage(CUSTOMER, asset_keys.CUSTOMERS, in_background=True),
    Stage(PRODUCT_STATS, asset_keys.PRODUCT_STATS_BUFFER, in_background=True, rejects=False),
)
NAMES = tuple(stage.name for stage in STAGES)
#: The stages that every continuing record must pass before its offset may be committed.
IN_BACKGROUND = tuple(stage.name for stage in STAGES if stage.in_background)

DECODE = "decode"
# Not a separate stage: the record counts for its own client, but MongoDB rejected the profile of another client whose
# order the record changes.
ORDERS = "orders"
#: Where a record can be rejected, in order. Dead letters name one of these.
REJECTING = (DECODE, *(stage.name for stage in STAGES if stage.rejects), ORDERS)
