"""The AsyncAPI document is valid, complete, and its references and examples hold."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hal9.topics import LOGS, Topics
from schemas import generate

HERE = Path(generate.__file__).parent
SPECIFICATION = Path(__file__).parents[1] / "data" / "asyncapi-3.0.0.json"
DOCUMENT: dict[str, Any] = yaml.safe_load((HERE / "asyncapi.yaml").read_text(encoding="utf-8"))
CHANNELS: dict[str, Any] = DOCUMENT["channels"]


def referred(reference: str) -> tuple[dict[str, Any], Any]:
    """The schema file of a reference, and what it refers to in there."""
    file, _, path = reference.partition("#")
    whole = json.loads((HERE / file).read_text(encoding="utf-8"))
    found = whole
    for part in path.strip("/").split("/"):
        found = found[int(part)] if isinstance(found, list) else found[part]
    return whole, found


def test_the_document_is_valid_by_the_schema_of_asyncapi_3() -> None:
    schema = json.loads(SPECIFICATION.read_text(encoding="utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    assert [f"{'/'.join(map(str, e.path))}: {e.message[:200]}" for e in validator.iter_errors(DOCUMENT)] == []
    assert not validator.is_valid({**DOCUMENT, "channels": {"x": {"address": 7}}})
    wrong = {**CHANNELS["control"], "bindings": {"kafka": {"partitions": 0}}}
    assert not validator.is_valid({**DOCUMENT, "channels": {"control": wrong}})


def test_it_has_a_channel_for_every_topic_as_it_is_created() -> None:
    topics = Topics()
    assert [channel["address"] for channel in CHANNELS.values()] == [topics.name(log) for log in LOGS]
    for log, channel in zip(LOGS, CHANNELS.values(), strict=True):
        kafka = channel["bindings"]["kafka"]
        assert kafka["partitions"] == topics.partitions_of(log)
        config = topics.config(log)
        for name, value in kafka["topicConfiguration"].items():
            assert (",".join(value) if isinstance(value, list) else str(value)) == config[name]


def test_every_topic_is_sent_to_and_received_from() -> None:
    ends = {(op["channel"]["$ref"].rpartition("/")[2], op["action"]) for op in DOCUMENT["operations"].values()}
    assert ends == {(name, action) for name in CHANNELS for action in ("send", "receive")}
    users = {name for name in DOCUMENT["operations"] if name.startswith("users_")}
    assert users == {"users_send_requests", "users_receive_responses", "users_receive_divergences"}


@pytest.mark.parametrize("name", CHANNELS)
def test_references_lead_somewhere_and_examples_are_what_they_say(name: str) -> None:
    for message in CHANNELS[name]["messages"].values():
        assert message["examples"]
        for part in ("headers", "payload"):
            whole, shape = referred(message[part]["$ref"])
            validator = jsonschema.Draft202012Validator({**shape, "$defs": whole.get("$defs", {})})
            for example in message["examples"]:
                validator.validate(example[part])
        assert message["bindings"]["kafka"]["key"]["type"] == "string"
