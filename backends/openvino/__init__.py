"""A stand-in for Triton's C++ OpenVINO backend, for the Triton that pip installs.

NVIDIA's container brings ``libtriton_openvino.so``; where that is absent Triton falls back to this
folder (a *Python-based backend*), so one model repository serves in both. The reference is
https://github.com/triton-inference-server/openvino_backend, its branches r24.10 to r26.08.

The same here:
    * ``default_model_filename`` (default ``model.xml``; ``model.onnx`` and whatever else OpenVINO reads).
    * ``parameters`` ``INFERENCE_NUM_THREADS``, ``COMPILATION_NUM_THREADS``, ``NUM_STREAMS``, ``PERFORMANCE_HINT``,
      ``HINT_BF16``, ``CPU_EXTENSION_PATH``, ``TARGET_DEVICE``, and ``SKIP_OV_DYNAMIC_BATCHSIZE``,
      ``ENABLE_BATCH_PADDING``, ``RESHAPE_IO_LAYERS``, which are on when they say yes in any case and off otherwise.
      Other parameters are ignored. OpenVINO's CPU plugin itself refuses ``COMPILATION_NUM_THREADS``.
    * **``max_batch_size`` is the only batch size.** Where it is not 0 the graph is fixed to it, and an execution of any
      other size fails, or is filled up with zeros where ``ENABLE_BATCH_PADDING`` is YES. A model that takes
      any batch size says ``max_batch_size: 0`` and has the batch dimension in its dims.
    * Data types of the config: OpenVINO converts where the graph has others. No strings, no FP64, no BF16.
    * Dims are held against the graph when the model loads; ``reshape``.
    * A config without inputs or outputs is completed from the graph; batches only where the graph says which dimension
      is the batch, which ONNX cannot.
    * Instance kind: KIND_CPU.

Different here:
    * Every instance is a process with the weights to itself, where C++ instances share one compiled model. For the same
      total of threads an instance has ``INFERENCE_NUM_THREADS`` (or the cores there are) divided by the greater of
      ``NUM_STREAMS`` and the number of instances, and where there are several, one stream each and no pinning to cores:
      each would pin the same ones. A lone instance has exactly what the config says.
    * Devices other than the CPU are refused at load.
    * ``HINT_BF16`` is refused at load on a CPU without bfloat16 instructions. OpenVINO imitates them there: BERT-base
      took 56 times as long as in FP32.
    * ``ENABLE_BATCH_PADDING`` with open dims is refused at load; C++ loads it and then fails what it should fill up.
    * A graph with partly open shapes is not completed: C++ completes them as -1 throughout and then refuses that.
    * When a batch of several requests fails, they run again one by one, and only the bad ones fail.
    * Shapes that the graph cannot take are refused before the run, by OpenVINO's shape inference; every run has output
      tensors of its own, and after a failed run the model is compiled anew. OpenVINO's CPU plugin (2024.4 to 2026.4)
      on one thread reads beyond the end of inputs whose shapes contradict each other, or leaves the answer of the
      request before; on several threads it fails, and then fails good requests too until another shape has run.
    * Empty tensors and missing inputs are refused, as are at load ``batch_input``, ``batch_output``,
      ``allow_ragged_batch``, ``optional``, ``sequence_batching`` and ``model_operations``.
    * Tensors travel through shared memory to this process and back, about 0.2 ms a request.
    * ``--backend-config=openvino,...`` does not reach a Python-based backend.
    * OpenVINO's Python package sends a usage event when it is imported; here it is kept from doing so.
"""
