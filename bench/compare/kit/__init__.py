"""A Triton repository as transformer-deploy, the best-known kit for BERT on Triton, lays it out.

Three models: a Python model that tokenises each request, the ONNX model, and an ensemble that passes the tokens from
one to the other. As generated, ``max_batch_size`` is 0 throughout and nothing batches; whoever works on it raises that
and turns Triton's dynamic batching on, which merges requests of equal shape only: there is no batching across lengths.
"""
