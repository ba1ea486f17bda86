"""The stages, in their order: the one list of them from which every other is made.

    from truepixel_dagster.stages.stage import STAGES
    [stage.name for stage in STAGES if stage.in_background]  # ["customer", "product_stats"]

A new stage is a module beside this one and a line in `STAGES`; `pipeline/runner.py` calls it.
"""

from __future__ import annotations

from typing import NamedTuple

from truepixel_dagster import asset_keys


class Stage(NamedTuple):
    """A stage.

    `asset` is what it writes. One `in_background` works beside the next micro-batch, the others one after the other.
    What one that `rejects` cannot write becomes a dead letter.
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
#: What every record that continues has to come through before its offset may be committed.
IN_BACKGROUND = tuple(stage.name for stage in STAGES if stage.in_background)

DECODE = "decode"
# No stage of its own: a record that counts for its own client, while MongoDB refused the profile of another client,
# whose order it changes.
ORDERS = "orders"
#: Where a record can be rejected, in order. Dead letters name one of these.
REJECTING = (DECODE, *(stage.name for stage in STAGES if stage.rejects), ORDERS)
