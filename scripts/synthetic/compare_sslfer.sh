#!/usr/bin/env bash
# SSL-FER's strategies at equal cost, on drawn faces: SimCLR, + TimeAug, + HardNeg; a linear probe of
# expression, valence and arousal, and one of identity. ROWS names further rows of the paper's table.
#
#   bash scripts/synthetic/compare_sslfer.sh [more flags of run_pretrain.py]
#   SHORT=1 bash scripts/synthetic/compare_sslfer.sh     everything at its smallest: a check
#
# Every run takes the same number of steps with the same number of views. The same command goes on
# where it stopped. JOBS processes of one thread run at a time. Variables:
set -euo pipefail
if ((${SHORT:-0})); then
  SEEDS=${SEEDS:-0 1} STEPS=${STEPS:-2} BATCH=${BATCH:-8} MODEL=${MODEL:-timm/test_resnet}
  NUM_CLIPS=${NUM_CLIPS:-8} NUM_LABELLED=${NUM_LABELLED:-28} NUM_PEOPLE=${NUM_PEOPLE:-4}
  OUTPUT_DIR=${OUTPUT_DIR:-saved/model/synthetic/compare_sslfer_short}
fi
OUTPUT_DIR=${OUTPUT_DIR:-saved/model/synthetic/compare_sslfer}
SEEDS=${SEEDS:-0 1 2}
ROWS=${ROWS:-untrained simclr timeaug timeaug_hardneg}
STEPS=${STEPS:-600}             # optimizer steps of each run
BATCH=${BATCH:-64}              # pairs per step
MODEL=${MODEL:-timm/resnet10t}  # 4.9 M weights
SIZE=${SIZE:-48}                # pixels
LR=${LR:-4e-3}                  # base rate: the peak is this x BATCH / 256
LEVEL=${LEVEL:-easy}            # of the faces
NUM_CLIPS=${NUM_CLIPS:-240}     # for pre-training, each of another person
NUM_FRAMES=${NUM_FRAMES:-112 128}  # of these clips, at 25 per second: HardNeg needs 4 seconds
NUM_LABELLED=${NUM_LABELLED:-560}  # clips of other people
NUM_PEOPLE=${NUM_PEOPLE:-80}    # in the labelled clips
LABELLED_FRAMES=${LABELLED_FRAMES:-24 32}
JOBS=${JOBS:-2}
DESCRIPTOR=${DESCRIPTOR:-hog}   # what tells false negatives
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source scripts/synthetic/jobs.sh
GPUS=${GPUS:-1}
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

data=$OUTPUT_DIR/data
read -r min_frames max_frames <<<"$NUM_FRAMES"
read -r min_labelled max_labelled <<<"$LABELLED_FRAMES"
window=(0 14 69 69) # of frames of 96 px: what VoxCeleb2's window is of 224

step "draw faces"
interruptible "$PYTHON" -m preprocess.synthetic --output_dir "$data/clips" --size 96 --level "$LEVEL" \
  --num_pretrain_videos "$NUM_CLIPS" --num_pretrain_identities "$NUM_CLIPS" \
  --num_labelled_videos 5 --num_identities 5 --num_folds 5 \
  --min_frames "$min_frames" --max_frames "$max_frames" --num_workers "$JOBS"
interruptible "$PYTHON" -m preprocess.synthetic --output_dir "$data/labelled" --size 64 --level "$LEVEL" \
  --num_pretrain_videos 1 --num_pretrain_identities 1 --num_labelled_videos "$NUM_LABELLED" \
  --num_identities "$NUM_PEOPLE" --num_folds 2 \
  --min_frames "$min_labelled" --max_frames "$max_labelled" --num_workers "$JOBS"
step "list and pack them"
if [[ ! -e $data/packed/info_clean.csv ]]; then
  interruptible "$PYTHON" -m preprocess.videos "$data/clips/voxceleb2/dev/mp4" \
    --output_dir "$data/list" --num_workers 0
  interruptible "$PYTHON" -m preprocess.pack "$data/list/info_clean.csv" \
    --output_dir "$data/packed" --whole_frames --num_workers 0
fi
interruptible "$PYTHON" -m preprocess.synthetic_images --dataset_dir "$data/labelled"

# train_one ROW SEED: STEPS steps, whatever an epoch is: with hard negatives a clip gives two pairs,
# so that an epoch has twice as many steps. The row "untrained" is the encoder as it is initialised.
train_one() {
  local run=$OUTPUT_DIR/runs/$1/seed$2 steps=$STEPS videos=$BATCH
  if [[ $1 == untrained ]]; then
    ROW_FLAGS=(--lr 0 --weight_decay 0) steps=1
  else
    sslfer_row "$1"
  fi
  if [[ " ${ROW_FLAGS[*]-} " == *" --hard_negatives "* ]]; then videos=$((BATCH / 2)); fi
  local epoch=$(((NUM_CLIPS + videos - 1) / videos))
  logged "$run" launch run_pretrain.py --objective contrastive --model "$MODEL" --input_size "$SIZE" \
    --data_path "$data/packed/info_clean.csv" --landmarks "$data/clips/voxceleb2/annotation" \
    --face_window "${window[@]}" --batch_size "$BATCH" --lr "$LR" \
    --epochs $(((steps + epoch - 1) / epoch)) --max_steps "$steps" \
    --warmup_epochs 0 --warmup_steps $((steps / 20 + 1)) \
    --seed "$2" --num_workers 0 --no_report --save_ckpt_freq 100000 --print_freq 50 \
    --output_dir "$run" ${ROW_FLAGS[@]+"${ROW_FLAGS[@]}"} ${MORE[@]+"${MORE[@]}"}
}

step "pre-train: $(wc -w <<<"$ROWS") rows x $(wc -w <<<"$SEEDS") seeds, $STEPS steps each"
MORE=("$@") runs=()
for seed in $SEEDS; do
  for row in $ROWS; do runs+=("train_one $row $seed"); done
done
run_jobs "${runs[@]}"

step "probe the frozen encoders"
read -ra rows <<<"$ROWS"
probes=(--probe "expression=$data/labelled/images/expression/split01"
  --probe "affect=$data/labelled/images/valence_arousal/split01"
  --probe "identity=$data/labelled/images/identity")
for format in md csv; do
  interruptible "$PYTHON" -m engine.probe_table "$OUTPUT_DIR/runs" "${probes[@]}" \
    --recipes "${rows[@]}" --format "$format" --output "$OUTPUT_DIR/table.$format" \
    --picture "$OUTPUT_DIR/table.png" --num_workers 0 --batch_size 64
done
step "done: $OUTPUT_DIR/table.md, table.csv and table.png"
cat "$OUTPUT_DIR/table.md"
