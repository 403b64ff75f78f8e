#!/bin/sh
# Downloads the wheels that an image is built from into build/wheels/<image>, with the pip of this machine: its index,
# proxy, certificates and --find-links, none of which then has to be known inside a build or can be left in an image.
# An image whose wheels are there is built from them alone, without a network; one whose wheels are not, from pip's default index.
#
#   deploy/wheels.sh cpu loadtest
#
# PYTHON names the Python whose pip is used (default: the checkout's .venv, else python3). What is downloaded is for
# Python 3.11 on Linux x86-64, whatever that Python is. Wheels that are there already are not downloaded again.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { echo "usage: deploy/wheels.sh IMAGE... (cpu, loadtest)" >&2; exit 2; }
python=${PYTHON:-}
[ -n "$python" ] || { python=.venv/bin/python; [ -x "$python" ] || python=python3; }

for image; do
    requirements=deploy/requirements-$image.txt
    [ -f "$requirements" ] || { echo "wheels.sh: there is no $requirements; images are cpu and loadtest" >&2; exit 2; }
    target=build/wheels/$image
    made_from=$(cat constraints.txt "$requirements" | sha256sum | cut -c 1-64)
    [ "$(cat "$target/made-from" 2>/dev/null)" != "$made_from" ] || continue
    # Made beside it and renamed: a folder that is there is whole.
    rm -rf "$target.new"
    mkdir -p "$target.new"
    # pip itself comes along: a base image need not have one.
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$target.new" \
        --only-binary :all: --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
        --platform manylinux_2_35_x86_64 --platform manylinux_2_34_x86_64 --platform manylinux_2_28_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_12_x86_64 \
        --platform manylinux2010_x86_64 --platform manylinux_2_5_x86_64 --platform manylinux1_x86_64 \
        -c constraints.txt -r "$requirements" pip
    echo "$made_from" > "$target.new/made-from"
    rm -rf "$target"
    mv "$target.new" "$target"
    echo "wheels.sh: $(find "$target" -name '*.whl' | wc -l) wheels in $target" >&2
done
