# CPU:   docker build -t svfap .
# CUDA:  docker build -t svfap:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#
#   docker run --rm -v "$PWD:/work" svfap predict talk.mp4 --checkpoint checkpoint-best.pth
#   docker run --rm --gpus all --shm-size=1g -v "$PWD:/work" svfap:cuda pretrain --data_path videos.csv
#
# PyTorch of PyPI brings CUDA itself; the host needs a driver and NVIDIA's container toolkit. Another
# base with python3 and pip, such as one of NVIDIA's: --build-arg BASE=...
# Loading videos needs next to nothing of /dev/shm; NCCL, between several GPUs, does: --shm-size=1g.
ARG BASE=python:3.12-slim
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_BREAK_SYSTEM_PACKAGES=1 PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

COPY . /src
RUN python3 -m pip install -c /src/constraints.txt --index-url ${TORCH_INDEX} torch torchvision \
    && python3 -m pip install -c /src/constraints.txt "/src[faces]" \
    && rm -r /src \
    && useradd --create-home user

USER user
WORKDIR /work
ENTRYPOINT ["svfap"]
