"""With batches: a queue collects up to 16 texts for 10 ms, and they are padded together. ``uvicorn batches:app``."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from model import load
from pydantic import BaseModel

LARGEST_BATCH = 16
LONGEST_WAIT_S = 0.010

classify_texts = load()
queue: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()


async def next_batch() -> list[tuple[str, asyncio.Future[str]]]:
    """What is there after the wait, or as soon as it is enough."""
    batch = [await queue.get()]
    with contextlib.suppress(asyncio.TimeoutError):
        async with asyncio.timeout(LONGEST_WAIT_S):
            while len(batch) < LARGEST_BATCH:
                batch.append(await queue.get())
    return batch


async def answer_batches() -> None:
    """One batch after another, in a thread."""
    while True:
        batch = await next_batch()
        try:
            labels = await asyncio.to_thread(classify_texts, [text for text, _ in batch])
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the callers are told
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
        else:
            for (_, future), label in zip(batch, labels, strict=True):
                if not future.done():  # its caller may have gone
                    future.set_result(label)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """The one who answers lives as long as the service."""
    task = asyncio.create_task(answer_batches())
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


class Query(BaseModel):
    """What is asked."""

    text: str


@app.post("/classify")  # type: ignore[untyped-decorator]
async def classify(query: Query) -> dict[str, str]:
    """``{"label": …}``."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await queue.put((query.text, future))
    return {"label": await future}
