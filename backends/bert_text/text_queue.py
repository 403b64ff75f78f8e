"""The texts that wait for the tensor model, those it computes at this moment, and the answers it gave.

One lock holds all of it together: a text is in the cache, in flight, or unknown, so nothing is computed twice, and a
request is settled by exactly one thread. Nothing slow happens under the lock; whoever settles a request is told, and
answers it without the lock.

A text goes ``add`` -> unread -> (tokenised by who takes it) ``read`` -> ready -> ``take`` -> computed -> ``finish``.
An execution is formed when somebody is free to compute it, so that what arrived meanwhile is part of the choice.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .cache import TextCache
from .calls import Calls
from .layout import Budget, choose
from .text_request import UNAVAILABLE, Answer, Failure, TextRequest
from .tokenise import Tokens

# Texts are tokenised ahead of the executions until this many budgets of tokens are ready: enough to choose similar
# lengths from, and a bound on what tokenising delays the next execution and on how far a text can be overtaken. With 64
# clients 4 instead of 2 gave the same throughput and a 99th percentile one fifth higher (docs/batching.md).
BUDGETS_AHEAD = 2
# To guess how many tokens a text has before it is tokenised. English has 4 to 5 bytes a token.
BYTES_PER_TOKEN = 4

# Who looks for what is late rests at least so long after each look, and long enough to take no more than this share of
# a core, however long the queue is.
MIN_REST_S = 0.01
LOOKING_SHARE = 0.05

LATE = Failure(UNAVAILABLE, "the request's timeout passed before its texts were computed", outcome="timed_out")
CLOSED = Failure(UNAVAILABLE, "the model is being unloaded")


@dataclass(eq=False)
class Text:
    """A distinct text in flight.

    Attributes:
        key: its digest.
        decoded: the text.
        arrived_s: when the first request for it came, on `time.monotonic`'s clock.
        places: the requests that wait for it, with its index in each.
        tokens: once it is tokenised.
        shared: how many of the places were there when its execution was formed: its failure is theirs alone.
    """

    key: bytes
    decoded: str
    arrived_s: float
    places: list[tuple[TextRequest, int]] = field(default_factory=list)
    tokens: Tokens | None = None
    shared: int = 0

    @property
    def wanted(self) -> bool:
        """Whether a request still waits for it."""
        return any(not request.settled for request, _ in self.places)

    @property
    def waits_until_s(self) -> float:
        """When the most patient of its requests is too late."""
        deadlines = [request.deadline_s for request, _ in self.places if not request.settled]
        return max((math.inf if deadline is None else deadline for deadline in deadlines), default=-math.inf)

    @property
    def length(self) -> int:
        """Its tokens; 0 before it is tokenised."""
        return 0 if self.tokens is None else len(self.tokens)


@dataclass(frozen=True)
class Work:
    """What to do next.

    Attributes:
        to_read: tokenise these and hand them to `TextQueue.read`, or
        to_compute: compute these in one execution, hand them to `TextQueue.finish` and say `TextQueue.computed`.
        settled: answer these requests: they came too late.
        call: which execution that is.
    """

    to_read: Sequence[Text] = ()
    to_compute: Sequence[Text] = ()
    settled: Sequence[TextRequest] = ()
    call: int = 0


class TextQueue:
    """Texts in flight and answers of texts; safe to use from any thread.

    Args:
        budget: what an execution may hold.
        cache_size: answers kept; 0 = none.
        max_queue_size: a request that needs a text computed is refused while so many texts wait; 0 = never.
        instances: of the tensor model, among which what waits is divided while they have nothing to compute.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(
        self,
        budget: Budget,
        cache_size: int,
        max_queue_size: int = 0,
        instances: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget = budget
        self._max_queue_size = max_queue_size
        self._calls = Calls(instances)
        self._clock = clock
        self._cache: TextCache[Answer] = TextCache(cache_size)
        self._in_flight: dict[bytes, Text] = {}
        self._unread: deque[Text] = deque()
        self._reading = 0
        self._ready: list[Text] = []  # in order of arrival
        self._closed = False
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._earlier_deadline = threading.Condition(lock)
        self._looks_again_s = math.inf  # when `late` does

    @property
    def cached(self) -> int:
        """Answers in the cache."""
        return len(self._cache)

    @property
    def waiting(self) -> int:
        """Texts that wait for an execution."""
        return len(self._unread) + self._reading + len(self._ready)

    def add(self, requests: Iterable[tuple[TextRequest, Sequence[tuple[bytes, str]]]]) -> tuple[list[TextRequest], int]:
        """Take in requests, each with the digest and the string of its texts.

        Returns:
            The requests that are settled by that (all texts cached, or refused), which are the caller's to answer, and
            how many texts were found in the cache.
        """
        with self._changed:
            settled, hits = [], 0
            for request, texts in requests:
                hits += self._take_in(request, texts)
                if request.settled:
                    settled.append(request)
            self._changed.notify()
            return settled, hits

    def _take_in(self, request: TextRequest, texts: Sequence[tuple[bytes, str]]) -> int:
        """One request; texts found in the cache."""
        missing = []
        for index, (key, decoded) in enumerate(texts):
            answer = self._cache.get(key)
            if answer is None:
                missing.append((index, key, decoded))
            else:
                request.answer(index, answer)
        if missing and self._closed:
            request.fail(CLOSED)
        elif 0 < self._max_queue_size <= self.waiting and any(key not in self._in_flight for _, key, _ in missing):
            request.fail(queue_full(self.waiting, self._max_queue_size))
        if request.failure is not None:
            return 0
        for index, key, decoded in missing:
            text = self._in_flight.get(key)
            if text is None:
                text = self._in_flight[key] = Text(key, decoded, request.received_s)
                self._unread.append(text)
            text.places.append((request, index))
        if missing and request.deadline_s is not None and request.deadline_s < self._looks_again_s:
            self._earlier_deadline.notify()
        return len(texts) - len(missing)

    def take(self) -> Work | None:
        """What to do next; waits until there is something. None once closed."""
        with self._changed:
            while not self._closed:
                work = self._next()
                if work is not None:
                    if self._unread or self._ready:
                        self._changed.notify()  # there is more than one can do
                    return work
                self._changed.wait()
            return None

    def _next(self) -> Work | None:
        settled: list[TextRequest] = []
        ahead = BUDGETS_AHEAD * self._budget.max_tokens - sum(text.length for text in self._ready)
        to_read: list[Text] = []
        while self._unread and ahead > 0:
            text = self._unread.popleft()
            if self._still_wanted(text, settled):
                to_read.append(text)
                ahead -= max(1, len(text.decoded) // BYTES_PER_TOKEN)
        if to_read:
            self._reading += len(to_read)
            return Work(to_read=to_read, settled=settled)
        self._ready = self._wanted_of(self._ready, settled)
        now_s = self._clock()
        start_s = self._calls.next_start_s(now_s)
        # What would be too late by then is left to an instance that is free sooner than expected, or to `late`.
        in_time = [text for text in self._ready if text.waits_until_s > start_s]
        if not in_time:
            return Work(settled=settled) if settled else None
        indices = choose([text.length for text in in_time], self._budget, self._calls.idle)
        group = [in_time[index] for index in indices]
        chosen = set(map(id, group))
        self._ready = [text for text in self._ready if id(text) not in chosen]
        for text in group:
            text.shared = len(text.places)
        call = self._calls.begin(sum(text.length for text in group), now_s)
        return Work(to_compute=group, settled=settled, call=call)

    def late(self) -> list[TextRequest] | None:
        """Waits until requests are too late; these, which are the caller's to answer. None once closed."""
        with self._earlier_deadline:
            while not self._closed:
                sleep_s = self._looks_again_s - self._clock()
                self._earlier_deadline.wait(None if sleep_s == math.inf else max(0.0, sleep_s))
                if settled := self._look():
                    return settled
            return None

    def _look(self) -> list[TextRequest]:
        """Fails what is too late, and finds out when to look again."""
        began_s = self._clock()
        settled: list[TextRequest] = []
        self._unread = deque(self._wanted_of(self._unread, settled))
        self._ready = self._wanted_of(self._ready, settled)
        now_s = self._clock()
        places = (place for text in self._in_flight.values() for place in text.places)
        deadlines_s = (request.deadline_s for request, _ in places if request.deadline_s is not None)
        # What is past is being computed, or tokenised and looked at after that.
        first_s = min((deadline_s for deadline_s in deadlines_s if deadline_s > now_s), default=math.inf)
        rests_s = max(MIN_REST_S, (self._clock() - began_s) / LOOKING_SHARE)
        self._looks_again_s = max(first_s, now_s + rests_s)
        return settled

    def _wanted_of(self, texts: Iterable[Text], settled: list[TextRequest]) -> list[Text]:
        """Those to go on with."""
        return [text for text in texts if self._still_wanted(text, settled)]

    def _still_wanted(self, text: Text, settled: list[TextRequest]) -> bool:
        """Whether to go on with a waiting text; requests that are too late are failed and added to ``settled``."""
        now_s = self._clock()
        for request, _ in text.places:
            if request.deadline_s is not None and now_s >= request.deadline_s and request.fail(LATE):
                settled.append(request)
        if text.wanted:
            return True
        self._forget(text)
        return False

    def _forget(self, text: Text) -> None:
        if self._in_flight.get(text.key) is text:
            del self._in_flight[text.key]

    def read(self, texts: Sequence[Text]) -> None:
        """Tokenised texts are ready."""
        with self._changed:
            self._reading -= len(texts)
            self._ready += [text for text in texts if text.tokens is not None]
            self._ready.sort(key=lambda text: text.arrived_s)  # two may have been reading

    def finish(self, outcomes: Iterable[tuple[Text, Answer | Failure]]) -> list[TextRequest]:
        """What became of texts that were taken.

        A failure settles the requests that waited when the execution was formed; for those that joined later the text
        is computed again. A failure that is about the text itself is everybody's.

        Returns:
            The requests that are settled by that, which are the caller's to answer.
        """
        settled: list[TextRequest] = []
        with self._changed:
            for text, outcome in outcomes:
                if isinstance(outcome, Answer):
                    self._cache.put(text.key, outcome)
                    settled += [request for request, index in text.places if request.answer(index, outcome)]
                    self._forget(text)
                    continue
                concerned = text.places if outcome.of_text else text.places[: text.shared]
                settled += [request for request, index in concerned if request.fail(outcome.at(index))]
                text.places = text.places[len(concerned) :]
                if text.wanted:
                    self._ready.insert(0, text)
                    self._changed.notify()
                else:
                    self._forget(text)
        return settled

    def computed(self, call: int) -> None:
        """An execution that was taken is over, whatever became of its texts."""
        with self._changed:
            self._calls.end(call, self._clock())

    def fail(self, requests: Iterable[TextRequest], failure: Failure) -> list[TextRequest]:
        """Fail requests whose texts were taken; those that this settled, which are the caller's to answer."""
        with self._changed:
            return [request for request in requests if request.fail(failure)]

    def wanted(self, texts: Sequence[Text]) -> list[Text]:
        """Those of the taken texts that somebody waits for; the others are forgotten."""
        with self._changed:
            for text in texts:
                if not text.wanted:
                    self._forget(text)
            return [text for text in texts if text.wanted]

    def close(self) -> list[TextRequest]:
        """End all waiting; the requests that are failed by that, which are the caller's to answer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._earlier_deadline.notify_all()
            places = [place for text in self._in_flight.values() for place in text.places]
            return [request for request, _ in places if request.fail(CLOSED)]


def queue_full(waiting: int, max_queue_size: int) -> Failure:
    """Why a request is not taken in."""
    return Failure(
        UNAVAILABLE,
        f"{waiting} texts wait already, of at most {max_queue_size} (max_queue_size); try again later",
        outcome="queue_full",
    )
