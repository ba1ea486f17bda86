"""Faults of a MongoDB that answers: it is no longer the primary, or its disk is full."""

from __future__ import annotations

import time
from random import Random

from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.waiting import until

ELECTION_SECONDS = 60.0
OUT_OF_DISK_SPACE = 14031


def stepdown(pipeline: Pipeline, rng: Random) -> Hit:
    """MongoDB steps down and is elected again after 3–8 s"""
    seconds = rng.randint(3, 8)
    with pipeline.mongodb() as client:
        client.admin.command("replSetStepDown", seconds, secondaryCatchUpPeriodSecs=0, force=True)
        until(lambda: client.admin.command("hello")["isWritablePrimary"], ELECTION_SECONDS, "MongoDB's election")
    return ended(f"MongoDB stepped down for {seconds} s")


def disk_full(pipeline: Pipeline, rng: Random) -> Hit:
    """MongoDB refuses each write for 3–8 s, as with a full disk"""
    seconds, commands = rng.uniform(3, 8), ["insert", "update", "delete", "findAndModify"]
    data = {"errorCode": OUT_OF_DISK_SPACE, "failCommands": commands}
    with pipeline.mongodb() as client:
        try:
            client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
            time.sleep(seconds)
        finally:
            client.admin.command("configureFailPoint", "failCommand", mode="off")
    return ended(f"MongoDB without room for writes for {seconds:.1f} s")
