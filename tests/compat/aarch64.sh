#!/usr/bin/env bash
# Runs tests on AArch64 without such a machine: cross compiler, user-mode emulation, arm64 packages. Debian or Ubuntu, as
# root; slow (the emulated processor runs at a fiftieth of the real one's speed). Takes pytest's arguments, such as
#
#     tests/compat/aarch64.sh tests/entropy/test_latent_engines.py tests/codec/test_golden.py
#
# torch 2.6.0 and numpy 1.26.4 are what it runs on: the oldest that fastlic supports. FASTLIC_AARCH64 names a folder to
# keep between runs (about 700 MB).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${FASTLIC_AARCH64:-$(mktemp -d)}
python=3.11  # Debian bookworm's
mkdir -p "$work"/{debs,wheels,objects}

if [ ! -e "$work/root/usr/bin/python$python" ]; then
  dpkg --add-architecture arm64
  apt-get update -qq
  apt-get install -y -qq g++-aarch64-linux-gnu qemu-user-static
  packages="python$python python$python-minimal libpython$python libpython$python-minimal libpython$python-stdlib
    libpython$python-dev libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5
    libsqlite3-0 libuuid1 libdb5.3 libcrypt1 libncursesw6 libtinfo6 libreadline8 libnsl2 libtirpc3"
  # shellcheck disable=SC2046,SC2001
  (cd "$work/debs" && apt-get download -qq $(for package in $packages; do echo "$package:arm64"; done))
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/root"; done
fi
if [ ! -d "$work/site/torch" ]; then
  platforms=(--platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64)
  pip download -q --no-deps "${platforms[@]}" --python-version "$python" --only-binary=:all: -d "$work/wheels" \
    torch==2.6.0 numpy==1.26.4 pillow safetensors markupsafe sympy==1.13.1 mpmath==1.3.0 typing_extensions filelock \
    networkx jinja2 fsspec pytest pluggy iniconfig packaging click tqdm pygments
  for wheel in "$work"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$work/site"; done
fi

# The same flags as setup.py's, another compiler.
flags=(-std=c++20 -O3 -Wall -Wextra -ffp-contract=off -fno-math-errno -fPIC -fvisibility=hidden "-I$root/csrc"
  "-I$work/root/usr/include/python$python" "-I$work/root/usr/include"
  -isystem "$(python3 -c 'import pybind11; print(pybind11.get_include())')")
objects=()
while read -r source; do
  object="$work/objects/$(tr / _ <<<"${source#"$root"/}").o"
  objects+=("$object")
  echo "$source $object"
done < <(find "$root/csrc/fastlic" "$root/csrc/bindings" -name '*.cpp' | sort) >"$work/sources"
xargs -P "$(nproc)" -L 1 sh -c 'aarch64-linux-gnu-g++ '"${flags[*]}"' -c "$0" -o "$1"' <"$work/sources"
rm -rf "$work/tree" && mkdir "$work/tree"
cp -r "$root/fastlic" "$root/tests" "$root/pyproject.toml" "$work/tree"
rm -rf "$work"/tree/fastlic/_native*.so "$work/tree/fastlic/kernels"
cp -r "$root/kernels" "$work/tree/fastlic/kernels"
aarch64-linux-gnu-g++ -shared -pthread "${objects[@]}" -o "$work/tree/fastlic/_native.cpython-311-aarch64-linux-gnu.so"

cd "$work/tree"
PYTHONPATH=$work/tree:$work/site PYTHONHOME=$work/root/usr OMP_NUM_THREADS=1 \
  qemu-aarch64-static -L "$work/root" -E "LD_LIBRARY_PATH=$work/root/usr/lib/aarch64-linux-gnu" \
  "$work/root/usr/bin/python$python" -m pytest -p no:cacheprovider "$@"
