"""What a disk can refuse, each refusal a real one: full, read-only, someone else's, too large a file."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from export.errors import RepositoryError
from export.repository import ModelRepository
from export.serving import ServingOptions
from tests.tiny_repository import beside, contents, publish, random_model, stage

# Python 3.12 warns of forks in a process with threads; the child here gives up its rights, writes files and ends.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

NOBODY = 65534


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "model_repository")


@pytest.fixture
def mount() -> Iterator[Callable[..., Path]]:
    """``mount("-t", "tmpfs", ...)`` gives a mounted folder; needs root."""
    mounted: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="test-export-") as folder:

        def mount(*arguments: str) -> Path:
            if shutil.which("mount") is None:
                pytest.skip("there is no mount command; install util-linux")
            path = Path(folder, f"mount-{len(mounted)}")
            path.mkdir()
            done = subprocess.run(["mount", *arguments, str(path)], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(
                    f"cannot mount ({done.stderr.strip()}); run this test as root, in a container with SYS_ADMIN"
                )
            mounted.append(path)
            return path

        try:
            yield mount
        finally:
            for path in reversed(mounted):
                subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("folder", [".", "model_repository"])
def test_a_full_disk(mount: Callable[..., Path], folder: str) -> None:
    """The repository beside its staging, and one that is itself the mounted disk."""
    disk = mount("-t", "tmpfs", "-o", "size=2m", "tmpfs")
    repository = ModelRepository(disk / folder)
    publish(repository)
    before = contents(disk)
    free = shutil.disk_usage(disk).free
    message = rf"the disk that holds {repository.path} is full \(0.0 MB free\): make room there, .*--output"
    with pytest.raises(RepositoryError, match=message) as caught:
        publish(repository, fill=lambda path: random_model(path, 3_000_000))
    assert isinstance(caught.value.__cause__, OSError)
    assert contents(disk) == before
    assert shutil.disk_usage(disk).free == free
    assert publish(repository) == 2


def test_a_disk_that_fills_up_inside_a_library(mount: Callable[..., Path]) -> None:
    """torch and protobuf report a full disk as RuntimeError and the like."""
    disk = mount("-t", "tmpfs", "-o", "size=2m", "tmpfs")
    repository = ModelRepository(disk / "model_repository")

    def fill(folder: Path) -> None:
        try:
            (folder / "model.onnx").write_bytes(bytes(3_000_000))
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0") from None

    with pytest.raises(RepositoryError, match="is full"):
        publish(repository, fill=fill)
    assert beside(repository) == ["model_repository"]


def test_a_disk_that_fills_up_at_the_commit(mount: Callable[..., Path]) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=2m", "tmpfs")
    repository = ModelRepository(disk / "model_repository")
    publish(repository)
    before = contents(repository.path)
    with pytest.raises(RepositoryError, match="is full"), repository.staging() as staging:
        stage(staging, options=ServingOptions(cache_size=7))
        with (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)) == 4096 and shutil.disk_usage(disk).free:
                pass
        staging.commit()
    assert contents(repository.path) == before
    assert beside(repository) == ["filler", "model_repository"]
    (disk / "filler").unlink()
    assert publish(repository) == 2


def test_a_file_size_limit(repository: ModelRepository) -> None:
    publish(repository)
    before = contents(repository.path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(RepositoryError, match=r"ulimit -f"):
            publish(repository, fill=lambda path: random_model(path, 200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(repository.path) == before
    assert beside(repository) == ["model_repository"]


def test_a_read_only_repository(mount: Callable[..., Path], tmp_path: Path) -> None:
    publish(ModelRepository(tmp_path / "model_repository"))
    read_only = mount("-o", "bind,ro", str(tmp_path / "model_repository"))
    with pytest.raises(RepositoryError, match=r"is on a read-only file system: .*--output"):
        publish(ModelRepository(read_only))
    with pytest.raises(RepositoryError, match=rf"{read_only}/new is on a read-only file system"):
        publish(ModelRepository(read_only / "new"))


def test_a_volume_mounted_as_the_repository(mount: Callable[..., Path], tmp_path: Path) -> None:
    """Nothing can be renamed into a mounted folder from beside it, even on the same disk."""
    (tmp_path / "volume").mkdir()
    repository = ModelRepository(mount("-o", "bind", str(tmp_path / "volume")))
    places = []
    for _ in range(2):
        with repository.staging() as staging:
            places.append(staging.place.relative_to(repository.path).as_posix())
            version = stage(staging)
            staging.commit()
    assert places == [".export", "sentiment/.export"]
    assert repository.versions("sentiment") == [1, version]
    assert not list(repository.path.rglob(".export"))
    assert [path.name for path in repository.path.parent.iterdir() if path.name.startswith(".")] == []


def as_nobody(step: Callable[[], object]) -> str:
    """The message that ``step`` ends with when a user without rights takes it."""
    if os.geteuid() != 0:
        return message_of(step)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, message_of(step).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as answer:  # noqa: PTH123
        message = answer.read()
    os.waitpid(child, 0)
    return message


def message_of(step: Callable[[], object]) -> str:
    try:
        step()
    except RepositoryError as exc:
        return str(exc)
    return "no error"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can enter."""
    with tempfile.TemporaryDirectory(prefix="test-export-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("closed", ["the repository", "the folder that would hold it"])
def test_an_unwritable_folder(open_folder: Path, closed: str) -> None:
    repository = ModelRepository(open_folder / "model_repository")
    if closed == "the repository":
        repository.path.mkdir()
        repository.path.chmod(0o555)
    open_folder.chmod(0o555)
    message = as_nobody(lambda: publish(repository))
    assert message.startswith(str(repository.path))
    assert "may not be written by user" in message
    assert "change its owner or mode" in message
    assert [path.name for path in open_folder.rglob("*")] == (["model_repository"] if repository.path.exists() else [])


def test_an_unwritable_model_undoes_the_others(open_folder: Path) -> None:
    """The tensor models are in place already when the text model turns out to be someone else's."""
    repository = ModelRepository(open_folder / "model_repository")
    publish(repository)
    for path in [open_folder, *open_folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    (repository.path / "sentiment").chmod(0o555)
    before = contents(repository.path)
    message = as_nobody(lambda: publish(repository, options=ServingOptions(max_queue_size=7)))
    assert str(repository.path / "sentiment") in message
    assert "may not be written by user" in message
    assert contents(repository.path) == before
    assert beside(repository) == ["model_repository"]
