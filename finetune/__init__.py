"""Labelled text and a base checkpoint in, a fine-tuned checkpoint out: `python -m finetune`.

    errors   what can go wrong, by what the caller can do about it
    recipe   the hyper-parameters, validated before anything is loaded
    data     the labelled texts: reading, splitting, checking
    base     the base checkpoint: tokenizer, model, which of its weights are new
    scores   accuracy, macro F1, class weights (numpy only)
    train    the training run itself, on Hugging Face's Trainer
    adapter  LoRA adapters: making one, merging one
    card     the model card (README.md) and metrics.json of the checkpoint
    output   a folder that appears whole or not at all

What comes out is a plain Hugging Face folder: `transformers` loads it, `python -m export` takes it.
"""
