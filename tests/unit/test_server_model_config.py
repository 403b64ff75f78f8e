"""Configs in protobuf's text form, read without protobuf; protobuf itself says what is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2

from server.errors import RepositoryError
from server.model_config import ModelConfig, parse
from tests.conftest import REPOSITORY_ROOT

CONFIGS = sorted((REPOSITORY_ROOT / "model_repository").glob("*/**/*.pbtxt"))
# Every spelling of the text form that a person may use.
AWKWARD = """
# a comment with "quotes" and { braces
name: "it\\"s" ' two' "\\n\\303\\274" ; backend: 'bert_text',
max_batch_size: 8 input [{ name: "TEXT", data_type: TYPE_STRING dims: [ 1, -1 ] }]
output < name: "A" data_type: TYPE_FP32 dims: 2 > output: { name: "B" dims: [] }
instance_group [
  { kind: KIND_CPU count: 1 } , { kind: KIND_CPU } ]
version_policy: { specific { versions: [1, 3] versions: 7 } }
parameters { key: "tensor_model" value: { string_value: "bag" } }
dynamic_batching { }
"""


def as_lists(message: Message) -> dict[str, list[Any]]:
    """A protobuf message in this module's form, its maps as the entries that they are in text."""
    fields: dict[str, list[Any]] = {}
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            fields[descriptor.name] = [{"key": [key], "value": [as_lists(value[key])]} for key in sorted(value)]
            continue
        values = list(value) if descriptor.is_repeated else [value]
        if descriptor.message_type is not None:
            fields[descriptor.name] = [as_lists(one) for one in values]
        elif descriptor.enum_type is not None:
            fields[descriptor.name] = [descriptor.enum_type.values_by_number[one].name for one in values]
        elif descriptor.type == descriptor.TYPE_BOOL:
            fields[descriptor.name] = [str(one).lower() for one in values]
        else:
            fields[descriptor.name] = [one if isinstance(one, str) else str(one) for one in values]
    return fields


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_empty(one) for key, one in sorted(value.items()) if one}
    return [without_empty(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY_ROOT)))
def test_the_demos_configs_read_as_protobuf_reads_them(path: Path) -> None:
    text = path.read_text()
    message = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert without_empty(parse(text)) == without_empty(as_lists(message))


def test_there_are_configs_to_compare() -> None:
    assert len(CONFIGS) >= 12


def test_every_spelling_reads_as_protobuf_reads_it() -> None:
    message = text_format.Parse(AWKWARD, model_config_pb2.ModelConfig())
    parsed = parse(AWKWARD)
    # Python's literals are latin-1 code points where protobuf's are bytes: the one string that nothing here reads.
    assert parsed.pop("name")[0].encode("latin-1").decode() == message.name
    message.ClearField("name")
    assert without_empty(parsed) == without_empty(as_lists(message))
    config = ModelConfig.from_message(parse(AWKWARD))
    assert config.specific == (1, 3, 7)
    assert config.tensor_model == "bag"
    assert (
        config.signature == "backend bert_text; input TEXT TYPE_STRING [1, -1]; output A TYPE_FP32 [2]; output B ? []"
    )


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", (4,)),
        ("version_policy { latest { num_versions: 2 } }", (3, 4)),
        ("version_policy { latest { } }", (4,)),
        ("version_policy: { all: { } }", (1, 3, 4)),
        ("version_policy { specific { versions: [3, 9] } }", (3,)),
    ],
)
def test_the_version_policy_says_what_is_served(policy: str, served: tuple[int, ...]) -> None:
    assert ModelConfig.from_message(parse(policy)).served([1, 3, 4]) == served


@pytest.mark.parametrize(
    "text", ["name: ", "input {", "} ", 'name: "cut off', "= 3", "a [1", "version_policy: 3", "parameters { }"]
)
def test_what_is_no_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.pbtxt").write_text(text)
    with pytest.raises(RepositoryError, match=r"config\.pbtxt is not a model config"):
        ModelConfig.read(tmp_path)


def test_the_named_config_is_read_where_a_model_has_it(tmp_path: Path) -> None:
    assert ModelConfig.read(tmp_path) == ModelConfig(), "Triton completes a model without a config"
    (tmp_path / "configs").mkdir()
    (tmp_path / "config.pbtxt").write_text('backend: "a"')
    (tmp_path / "configs" / "gpu.pbtxt").write_text('backend: "b"')
    assert [ModelConfig.read(tmp_path, name).backend for name in (None, "gpu", "cpu")] == ["a", "b", "a"]
