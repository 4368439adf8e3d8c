#!/bin/bash -eu
# Builds every target with CXX, CXXFLAGS and LIB_FUZZING_ENGINE into OUT, with seeds and a dictionary beside each, as
# OSS-Fuzz expects it.
[ -d fuzz/targets ] || cd "$(dirname "$0")/../.."  # there it starts in the checkout, of which it is a copy
work=${WORK:-$(mktemp -d)}
"${PYTHON:-python3}" fuzz/build.py "$work/fastlic"
for source in fuzz/targets/*.cpp; do
  target=$(basename "$source" .cpp)
  cp "$work/fastlic/$target" "$OUT/"
  cp "fuzz/corpus/$target.zip" "$OUT/${target}_seed_corpus.zip"
  cp fuzz/dictionaries/numbers.dict "$OUT/$target.dict"
done
