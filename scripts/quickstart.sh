#!/usr/bin/env bash
# From nothing to an evaluated emotion model, on any machine: makes an environment, draws faces,
# pre-trains the tiny SVFAP on them, fine-tunes it, evaluates it on unseen people, draws pictures.
#
#   bash scripts/quickstart.sh                  drawn faces; about ten minutes on two cores
#   bash scripts/quickstart.sh --videos DIR     pre-trains on your videos and reconstructs them
#   bash scripts/quickstart.sh --output_dir D   keeps everything below D
#
# The same command again goes on where it stopped. How long it takes, as variables:
set -euo pipefail
NUM_PRETRAIN_VIDEOS=${NUM_PRETRAIN_VIDEOS:-300} # drawn without labels
NUM_VIDEOS=${NUM_VIDEOS:-1120}         # drawn with labels, four fifths of them for training
NUM_IDENTITIES=${NUM_IDENTITIES:-160}  # people in these; those of the test part appear only there
MASK_RATIO=${MASK_RATIO:-0.75}         # less than the paper's 0.9: there are only 4 x 4 patches
PRETRAIN_EPOCHS=${PRETRAIN_EPOCHS:-34}
PRETRAIN_LR=${PRETRAIN_LR:-4.8e-2}     # base rate: the peak is this x PRETRAIN_BATCH / 256
PRETRAIN_BATCH=${PRETRAIN_BATCH:-8}    # videos, with four clips of each
FINETUNE_EPOCHS=${FINETUNE_EPOCHS:-34}
FINETUNE_LR=${FINETUNE_LR:-8e-3}
FINETUNE_BATCH=${FINETUNE_BATCH:-32}
COMPARE=${COMPARE:-0}                  # 1: also fine-tune without pre-training, for comparison
VIDEO_CLIPS=${VIDEO_CLIPS:-4000}       # with --videos: videos read, at least 10 times each
VIDEO_BATCH=${VIDEO_BATCH:-8}
NUM_PICTURES=${NUM_PICTURES:-6}
SEED=${SEED:-0}

usage() {
  sed -n '2,/^set -euo/p' "$0" | sed '$d; s/^# \{0,1\}//'
  exit "${1:-0}"
}
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

videos='' output_dir=''
while (($#)); do
  case $1 in
    --videos | --output_dir)
      if (($# < 2)); then echo "error: $1 needs a folder" >&2; usage 2; fi
      if [[ $1 == --videos ]]; then videos=$(absolute "$2"); else output_dir=$(absolute "$2"); fi
      shift 2
      ;;
    -h | --help) usage ;;
    *) echo "error: unknown argument $1" >&2; usage 2 ;;
  esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -n $videos && ! -d $videos ]]; then echo "error: no folder $videos" >&2; exit 1; fi
bash scripts/setup_env.sh
if [[ ${VENV:-.venv} != none ]]; then PYTHON=${VENV:-.venv}/bin/python; fi
source scripts/common.sh
# One process if there is a GPU; otherwise one per core, up to four, that load their own data.
GPUS=$("$PYTHON" -c 'import os, torch
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
print(1 if torch.cuda.is_available() or cores < 2 else 4 if cores >= 4 else 2)')
loading=()
if ((GPUS > 1)); then
  loading=(--num_workers 0)
  export OMP_NUM_THREADS=1
fi

data=${output_dir:+$output_dir/data} runs=${output_dir:+$output_dir/runs}
data=${data:-saved/data/quickstart} runs=${runs:-saved/model/quickstart}
started=$SECONDS

# Small clips, so that minutes suffice: 8 frames of 64 px in patches of 16, without their own light
# and contrast. Faces are drawn at half of VoxCeleb2's 224 px, hence half of its window.
clip=(--patch_size 16 --num_frames 8 --sampling_rate 4 --standardise_clip)
size=112 window=(0 16 80 80)

# pretrain CSV RUN_DIR EPOCHS BATCH FLAGS...
pretrain() {
  launch run_pretrain.py --model pretrain_svfap_tiny_patch8_64 --data_path "$1" \
    "${clip[@]}" --mask_type tube --mask_ratio "$MASK_RATIO" --num_samples 4 \
    --batch_size $(($4 / GPUS)) ${loading[@]+"${loading[@]}"} --epochs "$3" --warmup_epochs 2 \
    --lr "$PRETRAIN_LR" --opt_betas 0.9 0.95 --save_ckpt_freq 1000 --seed "$SEED" \
    --visualize "$NUM_PICTURES" --log_dir "$2" --output_dir "$2" "${@:5}"
}

# finetune RUN_DIR FLAGS...: fold 1 of the drawn faces. Augmentation is lighter and layers keep one
# rate, unlike in the recipes, because the run is a hundred times shorter.
finetune() {
  if finished "$1"; then return; fi
  launch run_finetune.py --model svfap_tiny_patch8_64 --data_set synthetic --nb_classes 7 \
    --data_path "$data/dfew/org/split01" "${clip[@]}" --batch_size $((FINETUNE_BATCH / GPUS)) \
    ${loading[@]+"${loading[@]}"} --epochs "$FINETUNE_EPOCHS" --warmup_epochs 4 \
    --lr "$FINETUNE_LR" --layer_decay 1 --drop_path 0 --mixup 0 --cutmix 0 \
    --aa none --reprob 0 --scale 0.8 1 --test_num_segment 2 --test_num_crop 2 \
    --save_ckpt_freq 1000 --seed "$SEED" --log_dir "$1" --output_dir "$1" "${@:2}"
}

tell_where() {
  echo "open in a browser (curves, confusion matrix, pictures):"
  find "$runs" -name report.html | sort | sed 's/^/  /'
  echo "reconstructions:"
  find "$runs" -path '*/reconstructions/*.png' | sort | sed 's/^/  /'
  printf 'this took %d min %d s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
}

if [[ -n $videos ]]; then
  name=$(basename "$videos" | tr -cs 'A-Za-z0-9._-' '_' | sed 's/_*$//')
  data=$data/videos-$name runs=$runs/videos-$name
  step "list the videos of $videos"
  interruptible "$PYTHON" -m preprocess.videos "$videos" --output_dir "$data" --link_dir "$data/links"
  count=$(wc -l <"$data/info_clean.csv")
  epochs=$((VIDEO_CLIPS / count > 10 ? VIDEO_CLIPS / count : 10))
  step "pre-train the tiny SVFAP on them"
  pretrain "$data/info_clean.csv" "$runs" "$epochs" "$VIDEO_BATCH"
  step "done"
  echo "videos that could not be used: $data/broken.csv"
  echo "look at the reconstructions of your videos, and at the loss in curves.png"
  tell_where
  exit
fi

step "draw $((NUM_PRETRAIN_VIDEOS + NUM_VIDEOS)) videos of faces"
interruptible "$PYTHON" -m preprocess.synthetic --output_dir "$data/synthetic" \
  --num_pretrain_videos "$NUM_PRETRAIN_VIDEOS" --num_labelled_videos "$NUM_VIDEOS" \
  --num_identities "$NUM_IDENTITIES" --num_folds 5 --seed "$SEED" --max_frames 32 --scenes subject \
  --size "$size"
step "make the lists of videos"
interruptible "$PYTHON" -m preprocess.voxceleb2 --dataset_dir "$data/synthetic/voxceleb2" \
  --output_dir "$data/voxceleb2" --allow_other_counts
interruptible "$PYTHON" -m preprocess.dfew --dataset_dir "$data/synthetic/dfew" \
  --output_dir "$data/dfew/org" --allow_other_counts --val_fraction 0.1

step "pre-train: reconstruct faces of which most is hidden"
pretrain "$data/voxceleb2/info_clean.csv" "$runs/pretrain" "$PRETRAIN_EPOCHS" "$PRETRAIN_BATCH" \
  --face_window "${window[@]}"
step "fine-tune what was pre-trained, and test it on people it has not seen"
finetune "$runs/pretrained" --finetune "$runs/pretrain/checkpoint-last.pth"
if ((COMPARE)); then
  step "the same from scratch, for comparison"
  finetune "$runs/scratch"
fi

step "done"
if ((COMPARE)); then
  echo "test videos of unseen people; A is pre-trained, B from scratch:"
  "$PYTHON" -m engine.compare "$runs/pretrained" "$runs/scratch"
else
  echo "test videos of unseen people:"
  "$PYTHON" -m engine.summarize "$runs/pretrained"
fi
echo "chance is a UAR of 14.29 % (7 classes)"
echo "per class: $runs/*/metrics.json    per video: $runs/*/pred.csv"
tell_where
