"""The checked-in schemas, golden bytes and key vectors are what the types say, and independent readers agree."""

import base64
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgpack
import msgspec
import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from hal9 import keys, wire
from schemas import control, generate, headers, reports, state, telemetry
from schemas.base import decode
from schemas.examples import EXAMPLES, Example

HERE = Path(generate.__file__).parent
INDEX: list[dict[str, Any]] = json.loads((HERE / "golden" / "index.json").read_text(encoding="utf-8"))
DECODERS: dict[type, msgspec.msgpack.Decoder[Any]] = {
    state.Marker: state.marker_decoder,
    state.Claim: msgspec.msgpack.Decoder(state.Claim),
    state.Requests: state.requests_decoder,
    state.Seal: state.seal_decoder,
    state.Envelope: state.envelope_decoder,
    reports.Divergence: reports.divergence_decoder,
    reports.Quarantined: reports.quarantined_decoder,
    telemetry.Outcome: telemetry.outcome_decoder,
    telemetry.Status: telemetry.status_decoder,
    telemetry.Validation: telemetry.validation_decoder,
}


def decoder_of(value: object) -> msgspec.msgpack.Decoder[Any]:
    return control.decoder if isinstance(value, control.ControlRecord) else DECODERS[type(value)]


def golden(name: str) -> bytes:
    return (HERE / "golden" / f"{name}.bin").read_bytes()


def in_json_form(tree: Any) -> Any:
    """What an independent reader (the msgpack package) decoded, in the form of the index."""
    if isinstance(tree, dict):
        return {str(key): in_json_form(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [in_json_form(value) for value in tree]
    return base64.b64encode(tree).decode() if isinstance(tree, bytes) else tree


def test_everything_generated_is_checked_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_or_surplus_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "HERE", tmp_path / "schemas")
    (tmp_path / "schemas").mkdir()
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "schemas" / "json" / "control.json").write_text("{}")
    (tmp_path / "schemas" / "golden" / "old.bin").write_bytes(b"")
    assert generate.main(["--check"]) == 1
    error = capsys.readouterr().err
    assert "schemas/json/control.json" in error
    assert "schemas/golden/old.bin" in error


@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: str(entry["file"]))
def test_an_independent_reader_finds_in_the_golden_bytes_what_the_index_says(entry: dict[str, Any]) -> None:
    raw = (HERE / "golden" / entry["file"]).read_bytes()
    if entry["null"] or not raw:
        assert raw == b""
        return
    found = msgpack.unpackb(raw, strict_map_key=False)
    wanted = entry["value"]
    if isinstance(wanted, str):  # opaque
        assert base64.b64decode(wanted) == raw
        return
    assert in_json_form(found) == wanted


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.name))
def test_the_golden_bytes_are_read_back_as_the_value_they_came_from(example: Example) -> None:
    raw = golden(example.name)
    if isinstance(example.value, bytes) or example.value is None:
        assert raw == (example.value or b"")
        return
    assert decode(decoder_of(example.value), raw) == example.value


def test_doubles_survive_bit_for_bit() -> None:
    found = msgpack.unpackb(golden("neuron"))["state"]["weights"]
    assert [value.hex() for value in found] == [value.hex() for value in (0.1, -0.0, 5e-324, 1.7976931348623157e308)]


@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: str(entry["file"]))
def test_every_golden_record_is_valid_by_the_schema_of_its_topic(entry: dict[str, Any]) -> None:
    schema = json.loads((HERE / "json" / f"{entry['topic'].removeprefix('hal9.')}.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    record = {name: entry[name] for name in ("key", "headers", "value")}
    validator.validate(record)
    broken = {**record, "key": ""}
    assert not validator.is_valid(broken)


def test_a_record_with_a_wrong_value_or_header_is_invalid_by_its_schema() -> None:
    schema = json.loads((HERE / "json" / "dispatched.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    entry = next(entry for entry in INDEX if entry["file"] == "dispatched.bin")
    record = {name: entry[name] for name in ("key", "headers", "value")}
    assert validator.is_valid(record)
    assert not validator.is_valid({**record, "headers": {**record["headers"], "position": "4"}})
    assert not validator.is_valid({**record, "headers": {}})
    marker = next(entry for entry in INDEX if entry["file"] == "marker.bin")
    assert not validator.is_valid({**record, "key": marker["key"]})


def test_every_type_of_record_has_an_example() -> None:
    types = {type(example.value) for example in EXAMPLES}
    assert set(DECODERS) <= types
    assert set(control.ControlRecord.__subclasses__()) <= types
    assert {example.log for example in EXAMPLES} == {path.stem for path in (HERE / "json").glob("*.json")}


def test_the_wire_module_and_the_table_of_headers_have_one_set_of_names() -> None:
    names = {
        value
        for name, value in vars(wire).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    }
    tables = (headers.REQUEST, headers.DISPATCHED, headers.RESPONSE, headers.ANSWER, headers.STATE)
    declared = {header.name for table in tables for header in table}
    assert declared <= names
    # What our own services tell each other beyond the contract.
    assert names - declared <= {wire.SOURCE, wire.MOVED, wire.MOVE}


def test_key_vectors_hold_for_this_and_for_another_implementation_of_the_partitioner() -> None:
    vectors = json.loads((HERE / "golden" / "keys.json").read_text(encoding="utf-8"))["vectors"]
    theirs = DefaultPartitioner()
    for vector in vectors:
        key = bytes.fromhex(vector["utf8"])
        assert key == vector["key"].encode()
        for count, partition in vector["partition"].items():
            everywhere = list(range(int(count)))
            assert theirs(key, everywhere, everywhere) == partition
            assert keys.partition_of(key, int(count)) == partition


@given(st.binary(min_size=1, max_size=300), st.integers(1, 1024))
def test_the_partition_is_that_of_the_default_partitioner(key: bytes, count: int) -> None:
    everywhere = list(range(count))
    assert DefaultPartitioner()(key, everywhere, everywhere) == keys.partition_of(key, count)
