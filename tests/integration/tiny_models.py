"""Tiny fine-tuned sequence classifiers of every supported architecture, built in about a second each.

Real checkpoints in every respect but size: a configuration, a tokenizer trained on the spot, weights
trained until the sentences below are told apart, saved as `transformers` saves them. Nothing is downloaded.

    checkpoint = tiny_models.shared("roberta")  # or build("roberta", tmp_path / "checkpoint", labels=...)
    eval_data = tiny_models.write_labelled(tmp_path / "eval.csv", 2000)
"""

from __future__ import annotations

import atexit
import csv
import functools
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABELS = ("negative", "positive")
MAX_LENGTH = 128  # tokens, special tokens included
HIDDEN_SIZE = 32
HEADS = 4
LAYERS = 2

_POSITIVE = "great wonderful moving clever charming superb delightful fresh honest warm"
_NEGATIVE = "awful boring clumsy dull lifeless stale tedious shallow bland grating"
_WORDS = {"positive": _POSITIVE.split(), "negative": _NEGATIVE.split()}
_NEUTRAL = """
the film a story with its cast and this director of my evening scene after scene from start to finish
music was photography often seems plot two hours in an old city where nobody knows what happens next
"""
_FILLER = _NEUTRAL.split()
_SPECIAL = {
    "wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "bpe": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
}


@dataclass(frozen=True)
class Architecture:
    """One row of `ARCHITECTURES`: how to configure, and what its fused graph must contain for `LAYERS` layers."""

    model_type: str
    tokenizer: str  # a key of _SPECIAL
    config: dict[str, Any]
    inputs: tuple[str, ...]
    embed_layer_norms: int  # whether ONNX Runtime fuses the embeddings
    position_offset: int = 0


_SIZES: dict[str, Any] = {
    "hidden_size": HIDDEN_SIZE,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 64,
}
_THREE = ("input_ids", "attention_mask", "token_type_ids")
_TWO = _THREE[:2]

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture("bert", "wordpiece", _SIZES, _THREE, 1),
    "distilbert": Architecture(
        "distilbert", "wordpiece", {"dim": HIDDEN_SIZE, "n_heads": HEADS, "n_layers": LAYERS, "hidden_dim": 64}, _TWO, 1
    ),
    "roberta": Architecture("roberta", "bpe", {**_SIZES, "type_vocab_size": 1}, _TWO, 0, position_offset=2),
    "electra": Architecture("electra", "wordpiece", {**_SIZES, "embedding_size": 16}, _THREE, 1),
    # MiniLM is a BertModel: a small hidden size with many heads.
    "minilm": Architecture("bert", "wordpiece", {**_SIZES, "num_attention_heads": 8}, _THREE, 1),
}


def labelled(count: int, *, seed: int = 0, labels: Sequence[str] = LABELS) -> list[tuple[str, str]]:
    """``count`` different (text, label) pairs of 3 to 40 words; the last label's words are the positive ones."""
    generator = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        label = generator.randrange(2)
        words = generator.choices(_FILLER, k=int(generator.triangular(2, 38, 6)))
        for _ in range(1 + len(words) // 8):
            words.insert(generator.randrange(len(words) + 1), generator.choice(_WORDS[LABELS[label]]))
        pairs[" ".join(words)] = labels[label]
    return list(pairs.items())


def write_labelled(path: Path, count: int, *, seed: int = 1, labels: Sequence[str] = LABELS) -> Path:
    """`labelled` texts as a CSV with the columns text and label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(labelled(count, seed=seed, labels=labels))
    return path


def build(kind: str, folder: Path, *, labels: Sequence[str] = LABELS, steps: int = 60, seed: int = 0) -> Path:
    """Trains a tiny classifier of ``kind`` (a key of `ARCHITECTURES`) and saves it with its tokenizer in ``folder``."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(seed)
    architecture = ARCHITECTURES[kind]
    tokenizer = _tokenizer(architecture)
    config = AutoConfig.for_model(
        architecture.model_type,
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_LENGTH + architecture.position_offset,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        initializer_range=0.1,
        **architecture.config,
    )
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    _train(model, tokenizer, steps, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def shared(kind: str) -> Path:
    """A checkpoint of ``kind`` built once for all tests of this process; do not change it."""
    folder = Path(tempfile.mkdtemp(prefix=f"tiny-{kind}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build(kind, folder / "checkpoint")


def _train(model: Any, tokenizer: Any, steps: int, seed: int) -> None:
    import torch

    pairs = labelled(16 * steps, seed=seed + 1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    model.train()
    for start in range(0, len(pairs), 16):
        texts, labels = zip(*pairs[start : start + 16], strict=True)
        batch = tokenizer(list(texts), padding=True, return_tensors="pt")
        loss = model(**batch, labels=torch.tensor([LABELS.index(label) for label in labels])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def _tokenizer(architecture: Architecture) -> Any:
    words = sorted({*_FILLER, *_WORDS["positive"], *_WORDS["negative"]})
    return {"wordpiece": _wordpiece, "bpe": _bpe}[architecture.tokenizer](words, architecture)


def _wordpiece(words: list[str], architecture: Architecture) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast, DistilBertTokenizerFast, ElectraTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
    vocabulary = [*_SPECIAL["wordpiece"], *letters, *(f"##{letter}" for letter in letters), *words]
    ids = {token: index for index, token in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    kinds = {"bert": BertTokenizerFast, "distilbert": DistilBertTokenizerFast, "electra": ElectraTokenizerFast}
    return kinds[architecture.model_type](tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)


def _bpe(words: list[str], _: Architecture) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import RobertaTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=_SPECIAL["bpe"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {word} {word}" for word in words], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=("</s>", tokenizer.token_to_id("</s>")), cls=("<s>", tokenizer.token_to_id("<s>")), add_prefix_space=False
    )
    return RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)
