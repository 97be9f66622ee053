#!/usr/bin/env bash
# From nothing to an evaluated emotion model, on any machine: makes an environment, draws faces,
# pre-trains the tiny SVFAP on them, fine-tunes it, evaluates it on unseen people, draws pictures.
#
#   bash scripts/quickstart.sh                  drawn faces; less than ten minutes on two cores
#   bash scripts/quickstart.sh --videos DIR     pre-trains on your videos and reconstructs them
#   bash scripts/quickstart.sh --output_dir D   keeps everything below D
#
# The same command again goes on where it stopped. GPUS sets the number of processes (0: the CPU).
# How long it takes, as variables; more of them, such as NUM_VIDEOS, in scripts/synthetic/tiny.sh:
set -euo pipefail
PRETRAIN_EPOCHS=${PRETRAIN_EPOCHS:-30}
FINETUNE_EPOCHS=${FINETUNE_EPOCHS:-30}
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
source scripts/synthetic/tiny.sh
# One process if there is a GPU; otherwise one per core, up to four, that load their own data. GPUS,
# if set, decides; 0 is one process on the CPU.
GPUS=${GPUS:-$("$PYTHON" -c 'import os, torch
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
print(1 if torch.cuda.is_available() or cores < 2 else 4 if cores >= 4 else 2)')}
processes=$((GPUS > 0 ? GPUS : 1))
loading=()
if ((GPUS > 1)); then
  loading=(--num_workers 0)
  export OMP_NUM_THREADS=1
fi

data=${output_dir:+$output_dir/data} runs=${output_dir:+$output_dir/runs}
data=${data:-saved/data/quickstart} runs=${runs:-saved/model/quickstart}
started=$SECONDS

# pretrain CSV RUN_DIR EPOCHS BATCH FLAGS...
pretrain() {
  # shellcheck disable=SC2086
  launch run_pretrain.py --model pretrain_svfap_tiny_patch8_64 --data_path "$1" \
    $CLIP_FLAGS --mask_type tube --mask_ratio "$MASK_RATIO" --num_samples "$NUM_SAMPLES" \
    --batch_size $(($4 / processes)) ${loading[@]+"${loading[@]}"} --epochs "$3" $TINY_PRETRAINING \
    --save_ckpt_freq 1000 --seed "$SEED" --visualize "$NUM_PICTURES" --log_dir "$2" \
    --output_dir "$2" "${@:5}"
}

# finetune RUN_DIR FLAGS...: fold 1 of the drawn faces
finetune() {
  # shellcheck disable=SC2086
  launch run_finetune.py --model svfap_tiny_patch8_64 --data_set synthetic --nb_classes 7 \
    --data_path "$data/dfew/org/split01" $CLIP_FLAGS --batch_size $((FINETUNE_BATCH / processes)) \
    ${loading[@]+"${loading[@]}"} --epochs "$FINETUNE_EPOCHS" --warmup_epochs 4 $TINY_FINETUNING \
    --test_num_segment 2 --test_num_crop 2 --save_ckpt_freq 1000 --seed "$SEED" \
    --log_dir "$1" --output_dir "$1" "${@:2}"
}

tell_where() {
  echo "open in a browser (curves, confusion matrix, pictures):"
  find "$runs" -name report.html | sort | sed 's/^/  /'
  echo "reconstructions:"
  find "$runs" -path '*/reconstructions/*.png' | sort | sed 's/^/  /'
  printf 'this took %d min %d s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
}

if [[ -n $videos ]]; then
  # A place for each folder: its name, and a sum of its path, since other folders have that name.
  name=$(basename "$videos" | tr -cs 'A-Za-z0-9._-' '_' | sed 's/_*$//')
  name+=-$(cd "$videos" && pwd -P | cksum | cut -d ' ' -f 1)
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
draw_faces "$data" "$SEED"
step "make the lists of videos"
list_unlabelled "$data"
list_labelled "$data"

step "pre-train: reconstruct faces of which most is hidden"
# shellcheck disable=SC2086
pretrain "$data/voxceleb2/info_clean.csv" "$runs/pretrain" "$PRETRAIN_EPOCHS" "$PRETRAIN_BATCH" \
  --face_window $FACE_WINDOW
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
