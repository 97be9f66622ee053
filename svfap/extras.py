"""Libraries that only some commands need: the extras of pyproject.toml."""

LIBRARIES = {
    "faces": ("dlib-bin", "face_recognition_models"),
    "parquet": ("pyarrow",),
    "hub": ("huggingface_hub",),
    "app": ("gradio",),
    "serve": ("fastapi", "uvicorn"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "sweep": ("optuna",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}


def install(extra: str) -> str:
    """What to do for the libraries of an extra, as the end of a sentence."""
    return f"pip install {' '.join(LIBRARIES[extra])} (this project's extra `{extra}`)"
