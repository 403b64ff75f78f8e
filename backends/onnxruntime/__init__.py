"""A stand-in for Triton's C++ ONNX Runtime backend, for the Triton that pip installs.

NVIDIA's container brings ``libtriton_onnxruntime.so``; where that is absent Triton falls back to this
folder (a *Python-based backend*), so one model repository serves in both. The reference is
https://github.com/triton-inference-server/onnxruntime_backend, branch r24.10.

The same here:
    * ``default_model_filename`` (default ``model.onnx``; a folder of that name may hold ``model.onnx``).
    * ``optimization.graph.level``: -1 basic, 1 extended, 2 off, anything else all.
    * ``parameters`` ``intra_op_thread_count``, ``inter_op_thread_count`` (0 or less: ONNX Runtime's choice),
      ``execution_mode`` (0 or 1), ``enable_mem_arena``, ``enable_mem_pattern``,
      ``session.use_device_allocator_for_initializers``, ``memory.enable_memory_arena_shrinkage``; on a GPU
      ``cudnn_conv_algo_search``, ``gpu_mem_limit``, ``arena_extend_strategy``, ``do_copy_in_default_stream``.
      Booleans are true/on/1/false/off/0 in any case, anything else fails the load. Other parameters are ignored.
    * ``optimization.execution_accelerators``: on a GPU ``cuda`` with any option of ONNX Runtime's CUDA provider, and
      ``tensorrt`` with the parameters that C++ knows (another fails the load). The four CUDA options above count only
      in ``parameters``; among the accelerator's, C++ overwrites them. An accelerator nobody knows fails the load.
    * I/O binding: on a GPU inputs are copied to the device before the run, outputs come back to the CPU after it.
    * Instance kinds: KIND_CPU runs on the CPU, KIND_GPU on the CUDA device of the instance, or fails the load.
      (Triton itself turns KIND_AUTO into one of the two before a backend sees it.)
    * A config without inputs or outputs is completed from the graph: names, types, dims, max_batch_size (4 where
      every tensor's first dimension is free) and dynamic batching. A config that names inputs and outputs is not
      touched, and held against the graph when the model loads: count, names, types, dims.
    * ``reshape``, scalars, strings, optional inputs (overridable initialisers, without batching).

Different here:
    * When a batch of several requests fails, they run again one by one, and only the bad ones fail.
    * Only outputs that some request of the batch asked for are computed.
    * A number with trailing letters (``"4x"``) fails the load; C++ reads 4.
    * ``batch_input``, ``batch_output``, ``allow_ragged_batch``, ``sequence_batching`` and
      ``model_operations`` are refused at load, as is BF16, which numpy has no type for.
    * CUDA graphs (``enable_cuda_graph``, ``trt_cuda_graph_enable``) are refused at load: C++ takes the keys and would
      answer with an old batch's inputs.
    * On a CPU nothing is bound: ONNX Runtime's plain call is 0.1 ms faster from Python.
    * The ``openvino`` accelerator is refused at load: this ONNX Runtime is not built with it.
    * Strings must be valid UTF-8, since ONNX Runtime's Python interface takes no other.
    * Tensors travel through shared memory to this process and back, about 0.2 ms a request.
    * ``--backend-config=onnxruntime,...`` does not reach a Python-based backend.
"""
