"""Client for text models served by NVIDIA Triton.

    from bert_triton_client import Client

    with Client("grpc://localhost:8001") as client:
        client.classify("I love this movie")

Importing this package is instant: the clients bring gRPC and aiohttp in when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .answers import (
    Classification,
    DynamicBatching,
    Health,
    InstanceGroup,
    ModelInfo,
    ModelMetadata,
    ModelStatus,
    ServerInfo,
    TensorInfo,
)
from .config import ClientConfig, TLSConfig
from .errors import (
    AccessDeniedError,
    BatchTooLargeError,
    BertTritonError,
    ClientClosedError,
    DeadlineExceededError,
    InvalidConfigError,
    InvalidRequestError,
    InvalidTensorError,
    InvalidTextError,
    ModelNotFoundError,
    NotReadyError,
    OverloadedError,
    ServerFaultError,
    ServerUnreachableError,
    UnavailableError,
    UnexpectedAnswerError,
    WrongProtocolError,
)
from .model_statistics import ModelStatistics

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .client import Client

__all__ = [
    "AccessDeniedError",
    "AsyncClient",
    "BatchTooLargeError",
    "BertTritonError",
    "Classification",
    "Client",
    "ClientClosedError",
    "ClientConfig",
    "DeadlineExceededError",
    "DynamicBatching",
    "Health",
    "InstanceGroup",
    "InvalidConfigError",
    "InvalidRequestError",
    "InvalidTensorError",
    "InvalidTextError",
    "ModelInfo",
    "ModelMetadata",
    "ModelNotFoundError",
    "ModelStatistics",
    "ModelStatus",
    "NotReadyError",
    "OverloadedError",
    "ServerFaultError",
    "ServerInfo",
    "ServerUnreachableError",
    "TLSConfig",
    "TensorInfo",
    "UnavailableError",
    "UnexpectedAnswerError",
    "WrongProtocolError",
]

_LAZY = {"Client": ".client", "AsyncClient": ".aio"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
