"""Catalogue of the weights that the authors of SVFAP and MAE-DFER released.

Links, folders and scores are those of the two READMEs. The links are share links, which have
expired before; `models.download` says so when they do, and takes mirrors and files fetched by hand.
"""

import difflib
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

_ONEDRIVE = "https://unioulu-my.sharepoint.com/:u:/g/personal/lsun24_univ_yo_oulu_fi/"
_DRIVE = "https://drive.google.com/file/d/{}/view?usp=sharing"
_SVFAP_PRETRAINING = "svfap_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100"
_MAEDFER_PRETRAINING = (
    "videomae_pretrain_base_dim512_local_global_attn_depth16_region_size2510_patch16_160_frame_"
    "16x4_tube_mask_ratio_0.9_e100_with_diff_target_server170"
)


@dataclass(frozen=True, kw_only=True)
class ReleasedFile:
    """One released file.

    Attributes:
        name: what the commands call it.
        url: share link of the authors.
        path: where recipes look for it, below saved/model.
        model: registered model whose weights these are.
        data_set: name of the catalogue of data sets that it was trained on.
        fold: cross-validation fold from 1, or None.
        uar: published unweighted average recall on the fold's test part, percent, or None.
        war: published accuracy there, percent, or None.
        sha256: hexadecimal, or None where it is not known.
        is_log: a training log instead of weights.
    """

    name: str
    url: str
    path: str
    model: str
    data_set: str
    fold: int | None = None
    uar: float | None = None
    war: float | None = None
    sha256: str | None = None
    is_log: bool = False


def _pretrained(name: str, url: str, folder: str, model: str) -> ReleasedFile:
    path = f"pretraining/voxceleb2/{folder}/checkpoint-99.pth"
    return ReleasedFile(name=name, url=url, path=path, model=model, data_set="voxceleb2")


def _finetuned(family: str, data_set: str, rows: Sequence[tuple], link: str) -> list[ReleasedFile]:
    """Weights and log of each row (fold or None, UAR, WAR, log's link, weights' link)."""
    files = []
    for fold, uar, war, log, weights in rows:
        name = f"{family}-base-{data_set.lower()}" + (f"-fold{fold}" if fold else "")
        folder = f"finetuning/{data_set.lower()}/{family}_base_released"
        folder += f"/split{fold:02d}" if fold else ""
        common = {
            "model": f"{family}_base_patch16_160",
            "data_set": data_set,
            "fold": fold,
            "uar": uar,
            "war": war,
        }
        files += [
            ReleasedFile(
                name=name, url=link.format(weights), path=f"{folder}/checkpoint-99.pth", **common
            ),
            ReleasedFile(
                name=f"{name}-log",
                url=link.format(log),
                path=f"{folder}/released_log.txt",
                is_log=True,
                **common,
            ),
        ]
    return files


_SVFAP_DFEW = (
    (1, 63.63, 75.31, "ETyu-mn8WyVCti6ifvs7ePMBBm0rV4HyEKNrJVIory3VPA?e=pGEYRA",
     "EXEnKAHX2ZxPrWvUAJ9Glg0B6GuYbw8ox9Zs3jn7lJ7jJA?e=ffXMQK"),
    (2, 58.82, 71.68, "ESGtilAWM8lJm9TUpTVOcysB11kZjUyFHfqArfyLDDcfcw?e=xDpxUb",
     "EfkLBkkmGqpPigAzL_S_FFABfuOShaNkrlcsSJLFrw2nHw?e=mKagKP"),
    (3, 64.88, 74.96, "EXRgNapDf1tOv9y1ddW1AkQBOeQNvDk-4YAcf9Gq9VPJ1g?e=bNfvaG",
     "ESbBQRwY--9Iuah3lUuuglkBwwkevZF4ftGKEDMO-HhxUA?e=3C2rkm"),
    (4, 63.73, 74.65, "ES9drCuXPyBFj8ogdGI_vbgB9wKuk2TAechC2m0p4P0Fkg?e=30yufp",
     "EaOR9NCzaYVNuqop89cNI94BlqrzeiRmXP-amDL2tTCw5g?e=obLurU"),
    (5, 68.39, 77.44, "EWPC0RKo9g9AkdMAzByllkcBY7vPha1jGKw_AHYHrDztsQ?e=fLxkpe",
     "EUDW_x4ly-hNlUs-PhSqKMMBRnP1ku16eu--dS9KrgeT6Q?e=I4VlyF"),
)  # fmt: skip
_SVFAP_FERV39K = (
    (None, 43.05, 52.86, "EYTAPbF2rt1Oo0ESuXWmTaYByZpTeNGWvAv9UjO4k1oomA?e=ClHfxJ",
     "EeiFyC-HLaBAntblXgeOt5sBB5KJJttxbQn7iMlotUvX2A?e=OqqIST"),
)  # fmt: skip
_SVFAP_MAFW = (
    (1, 38.40, 49.10, "Eb_Yv4I6cQxLu5xd92rDqTYBCSPMQ9uMQTrOcunXfGpx9Q?e=tpvm53",
     "EYdknPrtbo1Mt1NYjUqJtsIBVzBCPIU-HPPwhCcuvUg1hA?e=bKnU4U"),
    (2, 40.94, 53.95, "EVwFn7PV-LJNiXcTEZZVtOoBvlxu8RvTj3sSN9RZQPGCwg?e=4JaHG5",
     "EUWnPxO1gbNInVOeFaUPL8EBzfPvfWKaxidusQv8_J6h2Q?e=853E0o"),
    (3, 46.27, 59.68, "EZHAxnIfRPxIkE-HURMdITwBkS3SUSlt52d-dyaiDtKQWQ?e=Xhacur",
     "Eftx7YovMn9Mqn6FwfsQFdoBCFBxDu4fSWnw9307Xs_OBA?e=F0r91e"),
    (4, 47.78, 61.30, "EXGKZ00eHgdJtimGsDB7-pkBZmJs_q2QEQG2l3P042XuLg?e=vN2G3E",
     "EaBj2GjlldBKt8kwxeve01QBOISd2PuvR16CLT2GOVZ7Ww?e=aofdJD"),
    (5, 44.17, 57.56, "EXFC7KBKtz5JrDvOnc450TEB0R-Ey3UegqpaqpkSy1uK0A?e=ywMSWY",
     "ET1EUbbzVABKlko3ibr2zNoBq1_h7UvQ_WP4-jhtH1M-SQ?e=vLzP80"),
)  # fmt: skip
_MAEDFER_DFEW = (
    (1, 62.59, 74.88, "1dYhJiEm56V1ZwJyj-rvC8TjdmrUMa0hO", "1wRxwEZlrc3z3DqQ84xm_olmqRsj2obH3"),
    (2, 61.96, 72.49, "1pwXeaevtW0Xynr248HKvMx9eWxoxdY_n", "1lY4L2PMVWuF93K6_VqEl7QrPoSK0SvaQ"),
    (3, 64.00, 74.91, "1c-3sC4menIzphya-y3iZ-lT-54Ls-9Yv", "1FPKxBoGO3VXvLhcHY8iOPb9lQPi0_C1z"),
    (4, 63.07, 74.05, "1ZdadMpksJtUUTx6N2Fa6LI91qs7GV_S2", "1yFDc1n8SaTEQWrVX8k65loQm45rfwQeO"),
    (5, 65.42, 75.81, "18KnsGWZlgN3CZvfjs1UjH4E2AqVltsda", "1wmXO4M2kjpAOnvof8CmpJE6wUrxMUOgw"),
)
_MAEDFER_FERV39K = (
    (None, 43.29, 52.50, "1wnr7c9P43UtQ9wCzOiqGCYmaxkoXf2AE", "1vq9WxuV229spEX7JQCMTluLXvvefLRzq"),
)
_MAEDFER_MAFW = (
    (1, 36.11, 46.71, "1fhdiIbAVpp4qea_ri6l6etp-AaSM9DyH", "1BXTp-2mdy0fvrcjwFsZ4fPY53E4DotvR"),
    (2, 42.37, 54.82, "1L7HK7MR-WLIA1I2mU77LuGhA8OZA2Agv", "1Lzm50nPzZtTODfNYSkSLm09mhExHu2eL"),
    (3, 46.25, 58.87, "1R3UsOK0qlmFKaNRdlX55GjrYRwKlISO1", "1WlCTw5OjV6SZ7L7rU5xzvbVD_GTcp8CC"),
    (4, 45.42, 59.50, "1LlBs2fQyv6nZBQnrVIvCXmyHqKPm2ARm", "18fdMGu-GdYxUmCEG-33NR3hxvHFyrO-v"),
    (5, 41.66, 55.27, "1rQb1WX9e4xuqgofFhLbcl-kRJO3Hgh4l", "1CO6OY-P6oM5LMikLTlB5iz_AXack2vfH"),
)

RELEASED: dict[str, ReleasedFile] = {
    file.name: file
    for file in (
        _pretrained(
            "svfap-base-voxceleb2",
            _ONEDRIVE + "EUhhmb_5-ltMt7P7pjm3D1IBkdREeGnOrAW4kGrfEZSFxA?e=Iqarze",
            _SVFAP_PRETRAINING,
            "pretrain_svfap_base_patch16_160",
        ),
        *_finetuned("svfap", "DFEW", _SVFAP_DFEW, _ONEDRIVE + "{}"),
        *_finetuned("svfap", "FERV39k", _SVFAP_FERV39K, _ONEDRIVE + "{}"),
        *_finetuned("svfap", "MAFW", _SVFAP_MAFW, _ONEDRIVE + "{}"),
        _pretrained(
            "maedfer-base-voxceleb2",
            _DRIVE.format("1nzvMITUHic9fKwjQ7XLcnaXYViWTawRv"),
            _MAEDFER_PRETRAINING,
            "pretrain_maedfer_base_patch16_160",
        ),
        *_finetuned("maedfer", "DFEW", _MAEDFER_DFEW, _DRIVE),
        *_finetuned("maedfer", "FERV39k", _MAEDFER_FERV39K, _DRIVE),
        *_finetuned("maedfer", "MAFW", _MAEDFER_MAFW, _DRIVE),
    )
}


def find_released(patterns: Sequence[str], *, logs: bool = False) -> list[ReleasedFile]:
    """Files by name.

    Args:
        patterns: names or shell patterns ("svfap-base-dfew*"). Patterns choose weights; logs are
            found by their full names.
        logs: also take the log of everything chosen, where there is one.

    Returns:
        Each file once, in the order of the catalogue.

    Raises:
        ValueError: a name or pattern fits nothing; similar and known names are listed.
    """
    chosen = set()
    for pattern in patterns:
        weights = [name for name, file in RELEASED.items() if not file.is_log or name == pattern]
        found = fnmatch.filter(weights, pattern)
        if not found:
            near = difflib.get_close_matches(pattern, RELEASED, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            known = [name for name, file in RELEASED.items() if not file.is_log]
            raise ValueError(f"no released file {pattern!r}: {hint}known are {', '.join(known)}.")
        chosen.update(found)
    if logs:
        chosen |= {f"{name}-log" for name in chosen if f"{name}-log" in RELEASED}
    return [file for name, file in RELEASED.items() if name in chosen]


def released_at(path: str) -> ReleasedFile | None:
    """The entry whose place below saved/model ends this path, or None."""
    parts = path.replace("\\", "/")
    matches = (file for file in RELEASED.values() if f"/{parts}".endswith(f"/{file.path}"))
    return next(matches, None)
