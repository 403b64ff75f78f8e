#!/bin/sh
# For the builder stage of a Dockerfile: makes the virtual environment $2 with the packages that the file $1 names, in the
# versions of constraints.txt beside it, and byte-compiles nothing yet.
#
# The wheels beside it (deploy/wheels.sh) are used if there are any, and then nothing else is: no network, no index.
set -eu
requirements=$1 environment=$2 here=$(dirname "$1")

python3 -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"the base image has Python {v[0]}.{v[1]}; the images are built for 3.11")'
python3 -m venv --without-pip "$environment"
set -- install --quiet --no-cache-dir --disable-pip-version-check --root-user-action ignore --no-compile --no-deps \
    -c "$here/constraints.txt" -r "$requirements"
if wheel=$(ls "$here"/pip-*.whl 2>/dev/null); then
    exec "$environment/bin/python" "$wheel/pip" "$@" --no-index --find-links "$here"
fi
python3 -m pip --version >/dev/null 2>&1 || {
    echo "install-packages.sh: the base image has no pip and there are no wheels; run deploy/wheels.sh first" >&2
    exit 1
}
exec python3 -m pip --python "$environment/bin/python" "$@"
