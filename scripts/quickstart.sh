#!/usr/bin/env bash
# From nothing to an evaluated emotion model, on any machine: makes an environment, draws faces,
# pre-trains an SVFAP on them, fine-tunes it, does so from scratch for comparison, evaluates both on
# unseen people, and draws one picture of it all. On a GPU with a larger model and larger clips.
#
#   bash scripts/quickstart.sh                  drawn faces; five and a half minutes on two cores
#   bash scripts/quickstart.sh --videos DIR     pre-trains on your videos and reconstructs them
#   bash scripts/quickstart.sh --output_dir D   keeps everything below D
#
# The same command again goes on where it stopped. GPUS sets the number of processes (0: the CPU).
# How long it takes, as variables; more of them below and in scripts/synthetic/tiny.sh:
set -euo pipefail
PRETRAIN_EPOCHS=${PRETRAIN_EPOCHS:-30}
COMPARE=${COMPARE:-1}                  # 0: no fine-tuning from scratch
VIDEO_STEPS=${VIDEO_STEPS:-500}        # with --videos: steps, and at least 10 clips of each video
VIDEO_BATCH=${VIDEO_BATCH:-32}
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

# On a GPU a larger model, clips and frames; not measured.
if ((GPUS > 0)) && "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  MODEL=${MODEL:-svfap_small_patch16_160}
  NUM_PRETRAIN_VIDEOS=${NUM_PRETRAIN_VIDEOS:-3200}
  DATA_FLAGS=${DATA_FLAGS:---level easy --scenes subject --min_frames 32 --max_frames 32 --size 224}
  FACE_WINDOW=${FACE_WINDOW:-0 32 160 160}
  CLIP_FLAGS=${CLIP_FLAGS:---num_frames 16 --sampling_rate 2 --standardise_clip}
  SVFAP_FLAGS=${SVFAP_FLAGS-}
fi
MODEL=${MODEL:-svfap_tiny_patch8_64}
source scripts/synthetic/tiny.sh

data=${output_dir:+$output_dir/data} runs=${output_dir:+$output_dir/runs}
data=${data:-saved/data/quickstart} runs=${runs:-saved/model/quickstart}
started=$SECONDS

# pretrain CSV RUN_DIR EPOCHS BATCH FLAGS...
pretrain() {
  # shellcheck disable=SC2086
  launch run_pretrain.py --model "pretrain_$MODEL" --data_path "$1" \
    $CLIP_FLAGS $SVFAP_FLAGS --mask_type tube --mask_ratio "$MASK_RATIO" --num_samples "$NUM_SAMPLES" \
    --batch_size $(($4 / processes)) ${loading[@]+"${loading[@]}"} --epochs "$3" $TINY_PRETRAINING \
    --save_ckpt_freq 1000 --seed "$SEED" --visualize "$NUM_PICTURES" --log_dir "$2" \
    --output_dir "$2" "${@:5}"
}

# finetune RUN_DIR FLAGS...: fold 1 of the drawn faces
finetune() {
  # shellcheck disable=SC2086
  launch run_finetune.py --model "$MODEL" --data_set synthetic --nb_classes 7 \
    --data_path "$data/dfew/org/split01" $CLIP_FLAGS $SVFAP_FLAGS --batch_size $((FINETUNE_BATCH / processes)) \
    ${loading[@]+"${loading[@]}"} --epochs "$FINETUNE_EPOCHS" $TINY_FINETUNING \
    --disable_eval_during_finetuning --print_freq 10 --test_num_segment 2 --test_num_crop 2 --save_ckpt_freq 1000 --seed "$SEED" \
    --log_dir "$1" --output_dir "$1" "${@:2}"
}

tell_where() {
  if [[ -f $runs/overview.png ]]; then echo "all of it in one picture: $runs/overview.png"; fi
  echo "open in a browser (curves, confusion matrix, pictures):"
  find "$runs" -name report.html | sort | sed 's/^/  /'
  echo "reconstructions:"
  find "$runs" -path '*/reconstructions/*.png' | sort | sed 's/^/  /'
  printf 'this took %d min %d s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
}

if [[ -n $videos ]]; then
  name=$(folder_name "$videos")
  data=$data/videos-$name runs=$runs/videos-$name
  step "list the videos of $videos"
  interruptible "$PYTHON" -m preprocess.videos "$videos" --output_dir "$data" --link_dir "$data/links"
  count=$(wc -l <"$data/info_clean.csv")
  steps=$(((count + VIDEO_BATCH - 1) / VIDEO_BATCH))
  epochs=$((VIDEO_STEPS / steps > 10 ? VIDEO_STEPS / steps : 10))
  step "pre-train the tiny SVFAP on them"
  pretrain "$data/info_clean.csv" "$runs" "$epochs" "$VIDEO_BATCH" --warmup_steps $((VIDEO_STEPS / 10))
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

step "pre-train: reconstruct faces of which more than half is hidden"
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
fine_tuned=("$runs/pretrained") names=("pre-trained")
people=$data/synthetic/dfew/annotation/subjects.csv
if ((COMPARE)); then
  fine_tuned+=("$runs/scratch") names+=("from scratch")
  echo "test videos of unseen people; A is pre-trained, B from scratch:"
  "$PYTHON" -m engine.compare "${fine_tuned[@]}" --subjects "$people"
else
  echo "test videos of unseen people:"
  "$PYTHON" -m engine.summarize "${fine_tuned[@]}" --subjects "$people"
fi
"$PYTHON" -m engine.report.overview "${fine_tuned[@]}" --names "${names[@]}" \
  --pretraining "$runs/pretrain" --output "$runs/overview.png"
echo "chance is a UAR of 14.29 % (7 classes)"
echo "per class: $runs/*/metrics.json    per video: $runs/*/pred.csv"
tell_where
