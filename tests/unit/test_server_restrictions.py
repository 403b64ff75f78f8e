"""Which APIs take a key, which key that is, and that it is not to be read by others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from server import argv
from server.errors import OptionError
from server.restrictions import DEFAULT_APIS, HEADER, Restrictions

KEY = "0123456789abcdef"


def test_the_same_header_opens_both_protocols() -> None:
    restrictions = Restrictions(("trace", "logging"), KEY)
    assert restrictions.flags() == [
        f"--http-restricted-api=trace,logging:triton-grpc-protocol-admin-key={KEY}",
        f"--grpc-restricted-protocol=trace,logging:admin-key={KEY}",  # Triton puts the prefix before it
    ]
    assert restrictions.headers() == {"triton-grpc-protocol-admin-key": KEY} == {HEADER: KEY}
    assert KEY not in repr(restrictions)


def test_nothing_restricted_needs_no_key() -> None:
    assert (Restrictions().flags(), Restrictions().headers(), Restrictions().keys()) == ([], {}, [])
    assert Restrictions.of((), None) == Restrictions()


def test_loading_models_has_a_key_that_no_file_holds(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    restrictions = Restrictions.of(DEFAULT_APIS, tmp_path / "key", control=True)
    admin, loading = restrictions.keys()
    assert admin == KEY
    assert loading != KEY
    assert len(loading) >= 32
    assert any(
        flag == f"--grpc-restricted-protocol=model-repository:control-key={loading}" for flag in restrictions.flags()
    )
    assert not any("model-repository" in flag and KEY in flag for flag in restrictions.flags())
    only_loading = Restrictions.of((), None, control=True)
    assert [flag.partition(":")[0] for flag in only_loading.flags()] == [
        "--http-restricted-api=model-repository",
        "--grpc-restricted-protocol=model-repository",
    ]


def test_every_start_has_a_new_key() -> None:
    first, second = (Restrictions.of(DEFAULT_APIS, None) for _ in range(2))
    assert first.key != second.key


@pytest.mark.parametrize("key", ["", "short", "0123456789abcde=", "0123456789,abcdef", "0123456789 abcdef", "ä" * 20])
def test_a_key_that_triton_would_take_apart_is_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_text(key)
    with pytest.raises(OptionError, match="at least 16 of A-Z") as caught:
        Restrictions.of(DEFAULT_APIS, tmp_path / "key")
    assert not key or key not in caught.value.message


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--admin-key-file .*/none cannot be read"):
        Restrictions.of(DEFAULT_APIS, tmp_path / "none")


def test_unknown_apis_are_named() -> None:
    with pytest.raises(OptionError, match="'trace,models', expected each at most once of health, "):
        Restrictions(("trace", "models"), KEY)


def test_a_secret_is_taken_out_of_a_childs_command_line() -> None:
    secrets = ["S3cret-of-the-house", "another-one"]
    script = "import sys; print(len(sys.argv), flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", script, f"--key={secrets[0]}", f"{secrets[0]},{secrets[1]}", "kept"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        shown = Path(f"/proc/{child.pid}/cmdline")
        assert secrets[0].encode() in shown.read_bytes()
        hidden = argv.overwrite(child.pid, secrets)
        seen = shown.read_bytes()
        child.communicate()
    if not hidden:
        pytest.skip("here no process may write into its child's memory; run it outside of the sandbox")
    assert not any(secret.encode() in seen for secret in secrets)
    assert seen.endswith(b"\0kept\0")


def test_a_process_that_is_gone_hides_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
        assert not argv.overwrite(child.pid, ["secret"])
