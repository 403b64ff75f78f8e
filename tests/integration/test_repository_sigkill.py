"""An export killed with SIGKILL, at random moments and at every single step of its commit.

Whatever the moment: every version folder is whole, every config is whole, no text model is served without the
tensor models it calls, and the next export succeeds and leaves nothing behind.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bert_triton_client.contract import PARAM_TENSOR_MODEL
from export import disk, journal
from export.errors import RepositoryError
from export.manifest import verify
from export.repository import ModelRepository
from export.serving import ServingOptions
from export.triton_config import parse
from tests.tiny_repository import publish, random_model

# Python 3.12 warns of forks in a process with threads; these children only write files, and are killed.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

KILLS = 40
SIZE_BYTES = 1_000_000
PRECISIONS = ("fp32", "fp16", "int8")


def check(repository: ModelRepository, newest: int = 3) -> None:
    """Fails unless a server could start on the repository as it is; verifies so many of the newest versions."""
    for model in repository.models():
        versions = repository.versions(model)
        assert versions, f"{model} has no version"
        for version in versions[-newest:]:
            manifest = verify(repository.path / model / str(version))
            assert (manifest.model, manifest.version) == (model, version)
        folder = repository.path / model
        for path in [folder / "config.pbtxt", *(folder / "configs" / f"{name}.pbtxt" for name in ("cpu", "gpu"))]:
            assert parse(path.read_text(), str(path)).name == model
    if not repository.versions("sentiment"):
        return
    served = repository.versions("sentiment")[-1]
    called = parse((repository.path / "sentiment" / "config.pbtxt").read_text()).parameters[PARAM_TENSOR_MODEL]
    config = parse((repository.path / called.string_value / "config.pbtxt").read_text())
    kept = repository.versions(called.string_value)[-config.version_policy.latest.num_versions :]
    assert served in kept, f"sentiment {served} calls {called.string_value} {served}; loaded are {kept}"


def leftovers(repository: ModelRepository) -> list[Path]:
    """What of an export is not in its place."""
    around = [path for path in repository.path.parent.iterdir() if path != repository.path]
    return around + [path for path in repository.path.rglob(".*") if path.name != ".export.lock"]


def forked(work: Callable[[], object]) -> int:
    """A child that does ``work``; it exits with 0, or with 3 after a RepositoryError, 1 after any other."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except RepositoryError:
        os._exit(3)
    except BaseException:  # noqa: BLE001 the child must not go on as a second pytest
        os._exit(1)
    os._exit(0)


def export_without_end(repository: ModelRepository) -> None:
    """The configs of every second export differ, so that they are replaced too."""
    for number in itertools.count(1):
        publish(
            repository,
            precisions=PRECISIONS,
            options=ServingOptions(max_batch_size=1 + number % 2, intra_op_threads=1),
            fill=lambda folder: random_model(folder, SIZE_BYTES),
        )


def test_killed_at_random_moments(tmp_path: Path) -> None:
    generator = random.Random(2)
    repository = ModelRepository(tmp_path / "model_repository")
    interrupted = 0
    for _ in range(KILLS):
        child = forked(lambda: export_without_end(repository))
        time.sleep(generator.uniform(0, 0.25))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the export ended by itself"
        interrupted += bool(leftovers(repository))
        check(repository)
        before = repository.next_version("sentiment")
        if generator.random() < 0.3:  # else the next killed one has to cope
            assert publish(repository, fill=random_model) >= before
            check(repository)
            assert leftovers(repository) == []
    publish(repository, precisions=PRECISIONS)
    check(repository, newest=1000)
    assert leftovers(repository) == []
    assert interrupted >= KILLS // 4, "hardly any kill hit an export at work"


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Does ``work`` in a child that is killed just before its ``step``-th fsync, rename or unlink; whether it was."""

    def counted(real: Callable[..., object], count: Iterator[int]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if next(count) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    def work_counted() -> None:
        count = itertools.count()
        disk.sync = counted(disk.sync, count)  # type: ignore[assignment]
        Path.replace = counted(Path.replace, count)  # type: ignore[assignment, method-assign]
        Path.unlink = counted(Path.unlink, count)  # type: ignore[assignment, method-assign]
        work()

    _, status = os.waitpid(forked(work_counted), 0)
    assert status in (signal.SIGKILL, 0, 3 << 8)
    return status == signal.SIGKILL


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder whose fsync costs nothing, where there is one: a hundred exports follow each other here."""
    shared = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_killed_at_every_step_of_a_commit(memory: Path) -> None:
    """Each kill is followed by the next one, one step later, with no whole export between them."""
    repository = ModelRepository(memory / "model_repository")
    seen: set[str] = set()
    step, killed = 0, True
    while killed:
        options = ServingOptions(max_batch_size=1 + step)  # so that configs are replaced too
        killed = killed_at(step, lambda options=options: publish(repository, options=options))
        check(repository)
        newest = [repository.versions(model)[-1:] for model in ("sentiment", "sentiment_int8")]
        seen.add("between two models" if newest[0] != newest[1] else "whole")
        step += 1
    assert seen == {"between two models", "whole"}
    assert leftovers(repository) == []


def test_an_export_that_got_to_its_journal_is_finished_by_the_next(memory: Path) -> None:
    """From the journal on the export counts as done, so nothing of it may get lost."""
    moments = []
    for step in itertools.count():
        repository = ModelRepository(memory / str(step) / "model_repository")
        publish(repository)
        if not killed_at(step, lambda repository=repository: publish(repository)):
            break
        pending = journal.is_pending(repository.path.with_name(".model_repository.export"))
        published = repository.versions("sentiment") == [1, 2]
        with repository.staging() as staging:
            assert bool(staging.finished) == pending
            assert repository.versions("sentiment") == ([1, 2] if pending or published else [1])
        check(repository)
        assert leftovers(repository) == []
        moments.append("finished by the next" if pending else "published" if published else "undone")
    assert [moment for moment, _ in itertools.groupby(moments)] == ["undone", "finished by the next", "published"]


def test_killed_while_undoing(memory: Path) -> None:
    """A commit that fails is undone; killed in the middle of that, it is finished by the next export."""
    moments = set()
    killed = True
    for step in itertools.count():
        if not killed:
            break
        repository = ModelRepository(memory / str(step) / "model_repository")
        publish(repository, precisions=("int8",))
        in_the_way = repository.path / "sentiment" / "2"
        in_the_way.write_text("in the way")
        options = ServingOptions(max_batch_size=7)
        killed = killed_at(step, lambda r=repository, o=options: publish(r, precisions=("int8",), options=o))
        in_the_way.unlink()
        check(repository)
        with repository.staging() as staging:
            moments.add("finished" if staging.finished else "undone")
        assert leftovers(repository) == []
        for model in repository.models():
            assert repository.versions(model) == ([1, 2] if staging.finished else [1])
            for file in ("config.pbtxt", "configs/cpu.pbtxt", "configs/gpu.pbtxt"):
                config = parse((repository.path / model / file).read_text())
                assert config.max_batch_size == (7 if staging.finished else 64), (step, model, file)
    assert moments == {"finished", "undone"}


def test_killed_in_a_fresh_clone(memory: Path) -> None:
    """Configs are there and describe a model of two labels; no version may ever meet another model's config."""
    seen = set()
    killed = True
    for step in itertools.count():
        if not killed:
            break
        repository = ModelRepository(memory / str(step) / "model_repository")
        publish(repository, precisions=("int8",))
        for folder in repository.path.glob("*/1"):
            shutil.rmtree(folder)
        killed = killed_at(step, lambda r=repository: publish(r, precisions=("int8",), labels=("a", "b", "c")))
        for model in repository.models():
            for file in ("config.pbtxt", "configs/cpu.pbtxt", "configs/gpu.pbtxt"):
                labels = parse((repository.path / model / file).read_text()).output[-1].dims[0]
                seen.add((labels, repository.versions(model) != []))
    assert seen == {(2, False), (3, False), (3, True)}
