"""One schema per event, and nothing that does not fit it."""

from __future__ import annotations

from typing import Any

import pytest

from ringrift_ops.ledger import EventType, InvalidEventError, Ledger
from ringrift_ops.ledger.events import SCHEMAS, SelfplayCompleted, TrainingFailed


def test_F14_every_event_has_a_schema_that_forbids_unknown_keys() -> None:
    assert set(SCHEMAS) == set(EventType)
    assert all(schema.model_config["extra"] == "forbid" for schema in SCHEMAS.values())
    assert len(set(SCHEMAS.values())) == len(SCHEMAS)


@pytest.mark.parametrize(
    ("event", "payload", "message"),
    [
        ("TRAINING_DONE", {}, "unknown event 'TRAINING_DONE'; valid: SELFPLAY_COMPLETED"),
        ("TRAINING_FAILED", {"job_id": "j", "attempt": 1}, "error: Field required"),
        ("TRAINING_FAILED", {"job_id": "j", "attempt": 1, "error": "e", "config_key": "x"}, "config_key: Extra inputs"),
        (
            "TRAINING_FAILED",
            {"job_id": "j", "attempt": "one", "error": "e"},
            "attempt: Input should be a valid integer",
        ),
    ],
)
def test_F14_a_payload_that_drifted_is_refused(ledger: Ledger, event: str, payload: Any, message: str) -> None:
    with pytest.raises(InvalidEventError, match=message):
        ledger.record_event(event, "hex8_2p", None, payload)
    assert ledger.events() == []


def test_the_same_event_of_a_generation_is_recorded_once(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    one, _ = bench.running("one")
    failed = TrainingFailed(job_id="j", attempt=1, error="x")
    first = ledger.record_event(EventType.TRAINING_FAILED, "hex8_2p", one.id, failed)
    assert ledger.record_event("TRAINING_FAILED", "hex8_2p", one.id, failed) == first
    ledger.record_event("TRAINING_FAILED", "hex8_2p", one.id, failed.model_copy(update={"attempt": 2}))
    assert len(ledger.events(types=["TRAINING_FAILED"])) == 2


def test_events_are_found_by_type_config_generation_and_time(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    payload = SelfplayCompleted(batch="a" * 64, path="p", shard=0, games=1, moves=2)
    for config in ("hex8_2p", "hex8_3p", "hex8_2p"):
        ledger.record_event(EventType.SELFPLAY_COMPLETED, config, None, payload, now=bench.later(10))
    assert [event.config for event in ledger.events()] == ["hex8_2p", "hex8_3p", "hex8_2p"]
    assert len(ledger.events(config="hex8_2p")) == 2
    assert len(ledger.events(since=bench.now)) == 1
    assert [event.config for event in ledger.events(limit=2)] == ["hex8_3p", "hex8_2p"]
    assert ledger.events(generation=5) == ledger.events(types=[EventType.MODEL_PROMOTED]) == []
