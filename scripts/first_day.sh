#!/usr/bin/env bash
# What three people do on their first day, on drawn faces: every command in the words of the documents,
# with the seconds that it takes. Nothing has to be prepared; a number in the end says what it came to.
#
#   bash scripts/first_day.sh student|researcher|engineer [DIR]
#   SHORT=1 bash scripts/first_day.sh student     everything at its smallest, where learning is no matter
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
who=${1:-}
case $who in student | researcher | engineer) ;; *) usage ;; esac
out=${2:-saved/first_day/$who}
if ((${SHORT:-0})); then
  videos=42 people=10 folds=2
  quick="--max_steps 2 --epochs 1 --input_size 32 --stage_depths 1 2 --num_workers 0 --device cpu"
else
  videos=350 people=50 folds=5 quick="--num_workers 2"
fi
commands=0 words=0 begun=$SECONDS

# try COMMAND...: shows it, runs it, and says how long it took
try() {
  local started=$SECONDS word
  commands=$((commands + 1))
  for word in "$@"; do if [[ $word == --* ]]; then words=$((words + 1)); fi; done
  step "$*"
  interruptible "$@"
  echo "   took $((SECONDS - started)) s"
}

try "$PYTHON" -m svfap preprocess.synthetic --output_dir "$out/drawn" --num_pretrain_videos 1 \
  --num_labelled_videos "$videos" --num_identities "$people" --level easy --scenes subject \
  --min_frames 24 --max_frames 32 --size 96
case $who in
  student) # a folder per class -> a model -> an answer
    mkdir -p "$out/clips"
    while IFS=, read -r clip person emotion; do
      mkdir -p "$out/clips/$emotion"
      ln -sfn "$(cd "$out" && pwd)/drawn/dfew/Clip/jpg_256/$clip" "$out/clips/$emotion/${person}_$clip"
    done < <(tail -n +2 "$out/drawn/dfew/annotation/subjects.csv" | tr -d '\r')
    # shellcheck disable=SC2086
    FACES=0 OUTPUT_DIR="$out/mine" try bash scripts/train_on.sh "$out/clips" $quick
    try "$PYTHON" -m svfap predict "$out/drawn/dfew/Clip/jpg_256/00001" --no_crop --timeline \
      --checkpoint "$out/mine/run/checkpoint-last.pth" --output_dir "$out/answers"
    ;;
  researcher) # folds and seeds -> a table, a comparison, a sweep, a probe
    try "$PYTHON" -m svfap preprocess.dfew --dataset_dir "$out/drawn/dfew" --output_dir "$out/lists" \
      --allow_other_counts --val_fraction 0.2
    tiny="--model svfap_tiny_patch8_64 --data_set synthetic --nb_classes 7 --preset small $quick"
    # shellcheck disable=SC2046,SC2086
    try "$PYTHON" -m svfap engine.crossval --data_path "$out/lists" --output_dir "$out/folds" \
      --folds $(seq "$folds") --seeds 0 1 -- $tiny
    try "$PYTHON" -m svfap engine.compare "$out/folds/seed0" "$out/folds/seed1"
    cat >"$out/sweep.yaml" <<EOT
flags: {data_path: $out/lists/split01, model: svfap_tiny_patch8_64, data_set: synthetic, nb_classes: 7,
  max_steps: $((${SHORT:-0} ? 2 : 200)), epochs: $((${SHORT:-0} ? 1 : 25)), input_size: 32, num_workers: 0}
grid: {head_norm: [layer, batch]}
EOT
    try "$PYTHON" -m svfap engine.sweep "$out/sweep.yaml" --output_dir "$out/sweep"
    try "$PYTHON" -m svfap engine.probe "$out/folds/seed0/split01/checkpoint-last.pth" \
      --data_path "$out/lists/split01" --data_set synthetic
    ;;
  engineer) # a checkpoint -> answers in Python, features, another format
    try "$PYTHON" -m svfap preprocess.dfew --dataset_dir "$out/drawn/dfew" --output_dir "$out/lists" \
      --allow_other_counts
    # shellcheck disable=SC2086
    try "$PYTHON" -m svfap finetune --model svfap_tiny_patch8_64 --data_set synthetic --nb_classes 7 \
      --data_path "$out/lists/split01" --preset small --output_dir "$out/run" $quick
    try "$PYTHON" -c "
import svfap
predictor = svfap.Predictor('$out/run/checkpoint-last.pth', svfap.PredictionOptions(crop=False))
video = '$out/drawn/dfew/Clip/jpg_256/00001'
print(predictor.predict(video).tracks[0].answers())
print(predictor.features(video).tracks[0].values.shape)"
    try "$PYTHON" -m svfap engine.export --checkpoint "$out/run/checkpoint-last.pth" \
      --output "$out/model.pt2"
    ;;
esac
echo
echo "$who: $commands commands with $words flags, $((SECONDS - begun)) s; everything is in $out"
