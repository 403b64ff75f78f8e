"""The file of API keys: what it may hold; no message shows a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.gateway import keys
from deploy.gateway.errors import KeysError
from deploy.gateway.keys import ApiKey

GOOD = "k" * 32


def test_lines_are_a_name_and_a_key() -> None:
    content = f"# who may come in\n\nshop-2026 {GOOD}\n  blog\t{'a.b~c+d/e-f_' * 3}==  \r\n"
    assert keys.parse(content.encode()) == (ApiKey("shop-2026", GOOD), ApiKey("blog", "a.b~c+d/e-f_" * 3 + "=="))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds none"),
        ("# nothing", "holds none"),
        (GOOD, "line 1 of the file of API keys has 1 words"),
        (f"ok {GOOD}\nshop {GOOD} x", "line 2 .* has 3 words"),
        ("shop short", "line 1 .*'shop' has 5 characters, expected 16 to 512"),
        ("shop " + "k" * 513, "513 characters"),
        (f"shop {GOOD}=k", "character that the header"),
        (f"shop {GOOD}$", "character that the header"),
        (f"sh$op {GOOD}", r"'sh\$op' cannot name a key"),
        (f"anonymous {GOOD}", "'anonymous' cannot name a key"),
        (f"shop {GOOD}\nshop {GOOD}x", "the name 'shop' twice"),
        (f"shop {GOOD}\nblog {GOOD}", "'shop' and 'blog' have the same"),
        (f"shöp {GOOD}", "byte 2 .* not ASCII"),
    ],
)
def test_a_wrong_line_is_named_without_its_key(content: str, message: str) -> None:
    with pytest.raises(KeysError, match=message) as error:
        keys.parse(content.encode())
    assert GOOD not in str(error.value)
    assert "short" not in str(error.value)


def test_a_key_is_not_shown() -> None:
    assert GOOD not in repr(ApiKey("shop", GOOD))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"GATEWAY_API_KEYS '.*/keys' cannot be read: No such file"):
        keys.read(tmp_path / "keys")


def test_what_nginx_could_read_otherwise_is_escaped() -> None:
    assert r'"~^(?i:bearer) a\.b\+c' in keys.nginx_map((ApiKey("shop", "a.b+c" * 8),))
    assert keys.nginx_map(None) == "default anonymous;"
