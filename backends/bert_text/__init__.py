"""Code that runs inside Triton behind ``backend: "bert_text"``: text in, answers out.

::

    requests ──► scheduler.py ──► texts.py ──► cache.py ──► known: answered at once
                                  (rules)     (seen it?)
                                                  │ new
                 text_queue.py ◄──────────────────┘
                      │ whoever is free takes: tokenise.py (ids) ──► layout.py (which texts share a call)
                      ▼
                 execution.py ──► tensors.py ──► the tensor model, called through Triton ──► decode.py ──► answered

``model.py`` is the door Triton knocks on, ``triton_model.py`` wires; ``text_request.py`` is what travels,
``metrics.py`` counts. Only ``triton_model.py``, ``reply.py``, ``tensor_model.py`` and ``metrics.py`` touch Triton, so
everything else is tested without it. Needs numpy and ``tokenizers``, on Python 3.10 or later.
"""
