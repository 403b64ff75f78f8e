#!/bin/sh
# Removes from the folder of packages $1 what no model of this project is served with. Each line says why; the Dockerfile
# imports every package afterwards, and tests/e2e/test_compose.py serves the demo model with what is left.
set -eu
cd "$1"

remove() {  # a pattern that matches nothing is a package that changed: look at it again
    for path; do
        [ -e "$path" ] || { echo "strip-packages.sh: $path is not there any more; correct this script" >&2; exit 1; }
        rm -rf "$path"
    done
}

# nvidia-pytriton: the stubs for other Pythons, and the libpython of one of them. pytriton itself is never imported.
for stub in pytriton/tritonserver/python_backend_stubs/*; do
    [ "${stub##*/}" = 3.11 ] || rm -rf "$stub"
done
remove nvidia_pytriton.libs/libpython3-*.13.so.*
# openvino: plugins for devices that a CPU image has not (and the GPU's kernel cache), readers of formats that are not
# served (ONNX and OpenVINO's own stay), headers, and the converter, whose import backends/openvino/runtime.py forbids.
remove openvino/libs/libopenvino_intel_gpu_plugin.so openvino/libs/cache.json openvino/libs/libopenvino_intel_npu_plugin.so
remove openvino/libs/libopenvino_tensorflow_frontend.so.* openvino/libs/libopenvino_tensorflow_lite_frontend.so.*
remove openvino/libs/libopenvino_pytorch_frontend.so.* openvino/libs/libopenvino_paddle_frontend.so.*
remove openvino/libs/libopenvino_jax_frontend.so.* openvino/libs/libopenvino_gguf_frontend.so.*
remove openvino/include openvino/cmake openvino/tools
# onnxruntime: the library for C programs (the Python module holds all of it), and tools that make or change models.
remove onnxruntime/capi/libonnxruntime.so.* onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets
# numpy: what makes extension modules, and tests.
remove numpy/f2py numpy/distutils numpy/core/include numpy/core/lib numpy/random/lib
find numpy -type d -name tests -prune -exec rm -rf {} +
find . -name '*.pyi' -delete
