"""Code that runs inside Triton behind ``backend: "bert_text"``: text in, answers out.

::

    BYTES of all requests ──► texts.py ──► cache.py ──► tokenise.py ──► layout.py ──► tensors.py
                              (rules)     (seen it?)   (ids)           (executions)      │
    LABEL, SCORE, … ◄── decode.py ◄── logits ◄── the tensor model, called through Triton ◄┘

``model.py`` is the door Triton knocks on, ``triton_model.py`` wires, ``batch.py`` walks a dynamic
batch through the steps above; ``metrics.py`` counts. Only ``triton_model.py``, ``tensor_model.py``
and ``metrics.py`` touch Triton, so everything else is tested without it. Needs numpy and
``tokenizers``, on Python 3.10 or later.
"""
