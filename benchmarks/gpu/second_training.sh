#!/usr/bin/env bash
# Train the demo model once more with another seed, and ask it what the shipped one was asked: does what is said of one
# training hold of another? On a large card in some eight minutes; OUT is where the numbers go.
set -eu
seed=${SEED:-1} out=${OUT:-benchmarks/results/fidelity} folder=${FOLDER:-demo/training}
train() { python3 -m demo.train --seed "$seed" --folder "$folder" --weights "$folder/weights" --stage "$1"; }
train data
train decoder & decoder=$!
train denoiser
wait "$decoder"
train export
for kind in t2v i2v; do
  for stage in confirm swap; do
    python3 -m benchmarks.fidelity.contest $stage --kind $kind --folder "$folder/weights/$kind" --word "-seed$seed" --out "$out" &
  done
done
wait
