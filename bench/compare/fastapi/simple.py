"""The service that people write first: a pipeline behind an endpoint. ``uvicorn simple:app``."""

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

app = FastAPI()
classifier = pipeline("text-classification", model=os.environ["CHECKPOINT"])


class Query(BaseModel):
    """What is asked."""

    text: str


@app.post("/classify")  # type: ignore[untyped-decorator]
def classify(query: Query) -> Any:
    """``{"label": …, "score": …}``."""
    return classifier(query.text, truncation=True)[0]
