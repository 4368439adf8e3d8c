#!/usr/bin/env bash
# Builds flic.wasm and its loader flic.mjs with Emscripten, and puts flic.js, the worker, the shipped weights and the demo
# beside them:
#
#     csrc/wasm/build.sh OUT_FOLDER [JOBS]
#
# Only what has changed is compiled again. Needs em++ (3.1.6 is enough), ninja and node.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 OUT_FOLDER [JOBS]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
csrc=$(dirname "$here")
mkdir -p "$1/objects"
out=$(cd "$1" && pwd)
jobs=${2:-2}
for tool in em++ ninja node; do
  command -v "$tool" > /dev/null || { echo "$0: $tool is missing" >&2; exit 1; }
done
emxx=em++
# Debian keeps node's packages where another node than its own does not look.
if [ -d /usr/share/nodejs/acorn ]; then emxx="NODE_PATH=/usr/share/nodejs em++"; fi

# -ffp-contract=off and -fno-math-errno: as setup.py. No threads: a page that wants them would need special headers.
compile="-O3 -std=c++20 -ffp-contract=off -fno-math-errno -msimd128 -fwasm-exceptions -fvisibility=hidden -Wall -Wextra"
compile+=" -Wno-c++2b-extensions"
functions=_malloc,_free,_flic_read_header,_flic_model_name,_flic_codec_open_memory
functions+=,_flic_codec_get_info,_flic_codec_reads,_flic_decode,_flic_encode,_flic_free
link="-O3 -fwasm-exceptions --no-entry -sMODULARIZE -sEXPORT_ES6 -sUSE_ES6_IMPORT_META=1 -sENVIRONMENT=web,worker"
link+=" -sFILESYSTEM=0 -sALLOW_MEMORY_GROWTH -sMAXIMUM_MEMORY=2GB -sTOTAL_STACK=1MB -sWASM_BIGINT -sEXPORTED_FUNCTIONS=$functions"

{
  echo "rule cxx"
  echo "  command = $emxx $compile -I$csrc -MMD -MF \$out.d -c \$in -o \$out"
  echo "  deps = gcc"
  echo "  depfile = \$out.d"
  echo "rule link"
  echo "  command = $emxx $link \$in -o \$out"
  objects=
  while IFS= read -r source; do
    object=objects/$(realpath --relative-to="$csrc" "$source" | tr / _).o
    echo "build $object: cxx $source"
    objects+=" $object"
  done < <(find "$csrc/fastlic" "$csrc/libflic/flic.cpp" -name "*.cpp" | LC_ALL=C sort)
  echo "build flic.mjs | flic.wasm: link$objects"
  echo "default flic.mjs"
  # For tests: ninja -C OUT_FOLDER sets.js && node OUT_FOLDER/sets.js
  echo "rule program"
  echo "  command = $emxx -O3 -fwasm-exceptions -sENVIRONMENT=node -sSINGLE_FILE -sALLOW_MEMORY_GROWTH \$in -o \$out"
  echo "build objects/sets.o: cxx $csrc/tests/sets.cpp"
  echo "build sets.js: program objects/sets.o$objects"
} > "$out/build.ninja"
ninja --quiet -C "$out" -j "$jobs"
cp "$here"/flic.js "$here"/flic.d.ts "$here"/flic-worker.js "$out"
mkdir -p "$out/weights" "$out/demo"
cp "$here"/demo/* "$out/demo"
cp "$csrc/../fastlic/data/photo.png" "$out/demo/sample.png"
cp -u "$csrc"/../fastlic/weights/*.safetensors "$out/weights"
