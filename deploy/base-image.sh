#!/bin/sh
# Makes a Debian bookworm image with Python 3.11, for BASE_IMAGE of every Dockerfile here, where no image can be pulled:
#
#   sudo deploy/base-image.sh bert-triton-base:bookworm
#   export PYTHON_IMAGE=bert-triton-base:bookworm DEBIAN_IMAGE=bert-triton-base:bookworm    # docker-compose.yml reads these
#
# Packages come from the mirrors of this machine's apt, if it is bookworm's, else from deb.debian.org. Made by mmdebstrap, or
# by debootstrap, which takes three times as long.
set -eu
[ $# -eq 1 ] || { echo "usage: deploy/base-image.sh IMAGE" >&2; exit 2; }
image=$1 suite=bookworm packages=python3,libpython3.11
# mmdebstrap makes files of other users: it could do without root, debootstrap cannot.
[ "$(id -u)" = 0 ] || { echo "base-image.sh: run it as root" >&2; exit 1; }

sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null | sort -u |
    sed -n "s#^\([^ ]*\) \($suite\(-security\|-updates\)\?\)\$#deb \1 \2 main#p")
[ -n "$sources" ] || sources="deb http://deb.debian.org/debian $suite main
deb http://deb.debian.org/debian-security $suite-security main"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if command -v mmdebstrap >/dev/null; then
    # Merged from the start: else a package with all of Perl is installed to merge /usr.
    mmdebstrap --quiet --variant=apt --dpkgopt=force-unsafe-io --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include=$packages,usr-is-merged $suite "$folder/system" - <<SOURCES
$sources
SOURCES
elif command -v debootstrap >/dev/null; then
    mirror=$(printf '%s\n' "$sources" | sed -n "s/^deb \(.*\) $suite main/\1/p" | head -n 1)
    debootstrap --variant=minbase --include=$packages $suite "$folder/system" "$mirror" >"$folder/log" ||
        { tail -n 5 "$folder/log" >&2; exit 1; }
    printf '%s\n' "$sources" > "$folder/system/etc/apt/sources.list"
else
    echo "base-image.sh: neither mmdebstrap nor debootstrap is installed; apt-get install mmdebstrap" >&2
    exit 1
fi
tar -C "$folder/system" -c --exclude='./dev/*' --exclude=./etc/dpkg/dpkg.cfg.d/99mmdebstrap --exclude='./var/lib/apt/lists/*' --exclude='./var/cache/*' --exclude='./var/log/*' \
    --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' . |
    docker import --change 'CMD ["/bin/sh"]' - "$image" >/dev/null
echo "base-image.sh: $image, $(docker image inspect --format '{{.Size}}' "$image" | awk '{printf "%.0f", $1 / 1e6}') MB" >&2
