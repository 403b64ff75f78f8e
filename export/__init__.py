"""Export: a fine-tuned BERT-family checkpoint becomes models in a Triton model repository.

`python -m export` is the command; `export.pipeline.run` is the same from Python. By module:

    checkpoint · hub · text_side    a checkpoint: weights, where they came from, tokenizer and labels
    onnx · source                   the ONNX graph of a checkpoint, or an ONNX file that was given
    fuse · half · quantize          the graph: fused FP32, FP16, INT8 (`calibration` chooses the recipe)
    pack · packed_layout            the same without padding inside, for each engine
    engines · processor             what runs a graph on a CPU, here and when it is served; the CPU itself
    data · evaluation · statistics  texts, running a classifier over them, and scores with their intervals
    gates · examination             what a precision must prove, and proving it
    triton_config · serving         config.pbtxt and the choices in it
    repository · manifest           the model repository on disk
    precisions · contenders         one row per precision; each for each engine, built, timed (`timing`) and judged
    choice · pipeline · publish     what the text model calls; the whole; the last step of it
    request · report · progress     what is asked, done and printed
"""
