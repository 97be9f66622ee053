#!/usr/bin/env bash
# Adapt pre-trained weights to your own videos: crops the faces, packs them, goes on with masked
# autoencoding at a low rate, and says what that did to the frozen features, where there are labels.
#
#   bash scripts/adapt.sh --videos DIR --weights NAME [--labels DIR] [--output_dir D] [-- flags]
#
# NAME is a file, hf://owner/repo[@revision][/file], or a name of `python -m models.download --list`
# whose encoder is pre-trained by masking here. --labels: a folder per class, probed before and after;
# it may be DIR itself, whose test videos are then seen without labels. Flags after -- go to
# run_pretrain.py and win. The same command again goes on where it stopped. Variables, beside those of
# scripts/common.sh:
set -euo pipefail
CROP=${CROP:-1}                 # 0: the videos are face crops already
CROP_SIZE=${CROP_SIZE:-224}     # of the crops, pixels
CLIPS=${CLIPS:-20000}           # read in training, and every video at least 10 times
LR=${LR:-5e-5}                  # base rate: the peak is this x batch / 256; pre-training has 3e-4
BATCH_SIZE=${BATCH_SIZE:-16}    # clips per process
UPDATE_FREQ=${UPDATE_FREQ:-1}
MASK_RATIO=${MASK_RATIO:-0.9}
SAMPLING_RATE=${SAMPLING_RATE:-4}
NUM_WORKERS=${NUM_WORKERS:-4}
PROBE_FLAGS=${PROBE_FLAGS:-}    # of run_finetune.py, for the probes

here=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
absolute() { case $1 in /* | hf://*) echo "$1" ;; *) if [[ -e $here/$1 ]]; then echo "$here/$1"; else echo "$1"; fi ;; esac; }
videos='' weights='' labels='' out=''
while (($#)); do
  case $1 in
    --) shift; break ;;
    --videos | --weights | --labels | --output_dir)
      if (($# < 2)); then fail "$1 needs a value"; fi
      case $1 in
        --videos) videos=$(absolute "$2") ;;
        --weights) weights=$(absolute "$2") ;;
        --labels) labels=$(absolute "$2") ;;
        *) case $2 in /*) out=$2 ;; *) out=$here/$2 ;; esac ;;
      esac
      shift 2
      ;;
    *) usage ;;
  esac
done
if [[ -z $videos || -z $weights ]]; then usage; fi
for folder in "$videos" ${labels:+"$labels"}; do
  if [[ ! -d $folder ]]; then fail "no folder $folder"; fi
done
need_weights "$weights" "--weights is a file, hf://owner/repo or a name"
check_flags pretraining --start_from "$weights" "$@"
out=${out:-saved/model/adapted/$(basename "$videos")}
GPUS=${GPUS:-1}
keep_settings "$out" --output_dir "videos=$(true_path "$videos")" "weights=$(true_path "$weights")" \
  "CROP=$CROP $CROP_SIZE"
if [[ -n $labels ]]; then
  keep_settings "$out/labelled" --output_dir "labels=$(true_path "$labels")"
fi

# cropped DIR NAME: sets `faces`, where the crops of DIR are
cropped() {
  faces=$1
  if ((!CROP)); then return; fi
  faces=$out/faces/$2
  step "crop the faces of $1"
  interruptible "$PYTHON" -m preprocess.faces "$1" --output_dir "$faces" --size "$CROP_SIZE"
}

# probe FILE NAME: into $out/probe/NAME
probe() {
  if [[ -z $labels || -f $out/probe/$2/probe.json ]]; then return; fi
  step "probe $2"
  # shellcheck disable=SC2086
  interruptible "$PYTHON" -m engine.probe "$1" --data_path "$out/labelled" \
    --output_dir "$out/probe/$2" --output "$out/probe/$2/probe.json" \
    -- --sampling_rate "$SAMPLING_RATE" --num_workers "$NUM_WORKERS" $PROBE_FLAGS
}

cropped "$videos" videos
data=$out/data
if [[ ! -f $data/packed/info_clean.csv ]]; then
  step "list and pack them"
  interruptible "$PYTHON" -m preprocess.videos "$faces" --output_dir "$data" --link_dir "$data/links"
  interruptible "$PYTHON" -m preprocess.pack "$data/info_clean.csv" --output_dir "$data/packed" \
    --whole_frames --leave_out_unreadable
fi
if [[ -n $labels ]]; then
  if [[ $labels != "$videos" ]]; then cropped "$labels" labels; fi
  if [[ ! -f $out/labelled/train.csv ]]; then
    interruptible "$PYTHON" -m preprocess.custom "$faces" --output_dir "$out/labelled" \
      --link_dir "$out/labelled/links"
  fi
fi
probe "$weights" before

count=$(wc -l <"$data/packed/info_clean.csv")
epochs=$((CLIPS / count > 10 ? CLIPS / count : 10))
step "go on with masked autoencoding: $epochs epochs of $count videos"
launch run_pretrain.py --start_from "$weights" --data_path "$data/packed/info_clean.csv" \
  --mask_ratio "$MASK_RATIO" --sampling_rate "$SAMPLING_RATE" --epochs "$epochs" \
  --warmup_epochs $((epochs > 10 ? 2 : 1)) --lr "$LR" --opt_betas 0.9 0.95 \
  --batch_size "$BATCH_SIZE" --update_freq "$UPDATE_FREQ" --num_workers "$NUM_WORKERS" \
  --save_ckpt_freq 1000 --log_dir "$out/run" --output_dir "$out/run" "$@"
probe "$out/run/checkpoint-last.pth" after

step "done"
echo "adapted weights: $out/run/checkpoint-last.pth"
echo "loss, features and reconstructions: $out/run/report.html"
if [[ -n $labels ]]; then
  echo "frozen features after (A) and before (B), linear probe on the test part of $labels:"
  "$PYTHON" -m engine.compare "$out/probe/after/linear" "$out/probe/before/linear"
fi
