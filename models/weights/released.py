"""Catalogue of the weights that the authors of SVFAP and MAE-DFER released.

Links, folders and scores are those of the two READMEs. The links are share links, which have
expired before; `models.download` says so when they do, and takes mirrors and files fetched by hand.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from svfap.suggest import did_you_mean

_LINKS = {
    "svfap": "https://unioulu-my.sharepoint.com/:u:/g/personal/lsun24_univ_yo_oulu_fi/{}",
    "maedfer": "https://drive.google.com/file/d/{}/view?usp=sharing",
}
# Of each family: the link's end, and the folder in which the authors' code puts the file.
_PRETRAINED = {
    "svfap": (
        "EUhhmb_5-ltMt7P7pjm3D1IBkdREeGnOrAW4kGrfEZSFxA?e=Iqarze",
        "svfap_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100",
    ),
    "maedfer": (
        "1nzvMITUHic9fKwjQ7XLcnaXYViWTawRv",
        "videomae_pretrain_base_dim512_local_global_attn_depth16_region_size2510_patch16_160_frame_"
        "16x4_tube_mask_ratio_0.9_e100_with_diff_target_server170",
    ),
}
# Of each family and data set: fold (0: there is one), published UAR and WAR in percent, link's end.
_FINETUNED = {
    ("svfap", "DFEW"): (
        (1, 63.63, 75.31, "EXEnKAHX2ZxPrWvUAJ9Glg0B6GuYbw8ox9Zs3jn7lJ7jJA?e=ffXMQK"),
        (2, 58.82, 71.68, "EfkLBkkmGqpPigAzL_S_FFABfuOShaNkrlcsSJLFrw2nHw?e=mKagKP"),
        (3, 64.88, 74.96, "ESbBQRwY--9Iuah3lUuuglkBwwkevZF4ftGKEDMO-HhxUA?e=3C2rkm"),
        (4, 63.73, 74.65, "EaOR9NCzaYVNuqop89cNI94BlqrzeiRmXP-amDL2tTCw5g?e=obLurU"),
        (5, 68.39, 77.44, "EUDW_x4ly-hNlUs-PhSqKMMBRnP1ku16eu--dS9KrgeT6Q?e=I4VlyF"),
    ),
    ("svfap", "FERV39k"): (
        (0, 43.05, 52.86, "EeiFyC-HLaBAntblXgeOt5sBB5KJJttxbQn7iMlotUvX2A?e=OqqIST"),
    ),
    ("svfap", "MAFW"): (
        (1, 38.40, 49.10, "EYdknPrtbo1Mt1NYjUqJtsIBVzBCPIU-HPPwhCcuvUg1hA?e=bKnU4U"),
        (2, 40.94, 53.95, "EUWnPxO1gbNInVOeFaUPL8EBzfPvfWKaxidusQv8_J6h2Q?e=853E0o"),
        (3, 46.27, 59.68, "Eftx7YovMn9Mqn6FwfsQFdoBCFBxDu4fSWnw9307Xs_OBA?e=F0r91e"),
        (4, 47.78, 61.30, "EaBj2GjlldBKt8kwxeve01QBOISd2PuvR16CLT2GOVZ7Ww?e=aofdJD"),
        (5, 44.17, 57.56, "ET1EUbbzVABKlko3ibr2zNoBq1_h7UvQ_WP4-jhtH1M-SQ?e=vLzP80"),
    ),
    ("maedfer", "DFEW"): (
        (1, 62.59, 74.88, "1wRxwEZlrc3z3DqQ84xm_olmqRsj2obH3"),
        (2, 61.96, 72.49, "1lY4L2PMVWuF93K6_VqEl7QrPoSK0SvaQ"),
        (3, 64.00, 74.91, "1FPKxBoGO3VXvLhcHY8iOPb9lQPi0_C1z"),
        (4, 63.07, 74.05, "1yFDc1n8SaTEQWrVX8k65loQm45rfwQeO"),
        (5, 65.42, 75.81, "1wmXO4M2kjpAOnvof8CmpJE6wUrxMUOgw"),
    ),
    ("maedfer", "FERV39k"): (
        (0, 43.29, 52.50, "1vq9WxuV229spEX7JQCMTluLXvvefLRzq"),
    ),
    ("maedfer", "MAFW"): (
        (1, 36.11, 46.71, "1BXTp-2mdy0fvrcjwFsZ4fPY53E4DotvR"),
        (2, 42.37, 54.82, "1Lzm50nPzZtTODfNYSkSLm09mhExHu2eL"),
        (3, 46.25, 58.87, "1WlCTw5OjV6SZ7L7rU5xzvbVD_GTcp8CC"),
        (4, 45.42, 59.50, "18fdMGu-GdYxUmCEG-33NR3hxvHFyrO-v"),
        (5, 41.66, 55.27, "1CO6OY-P6oM5LMikLTlB5iz_AXack2vfH"),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReleasedFile:
    """One file of released weights."""

    name: str
    url: str  # share link of the authors
    path: str  # where recipes look for it, below saved/model
    data_set: str  # name of the catalogue of data sets that it was trained on
    # published unweighted average recall on the fold's test part, percent, or None
    uar: float | None = None
    war: float | None = None  # published accuracy there, percent, or None
    sha256: str | None = None  # hexadecimal, or None where it is not known


def _files(family: str) -> list[ReleasedFile]:
    """What was released of a family of models."""
    link, folder = _PRETRAINED[family]
    files = [
        ReleasedFile(
            name=f"{family}-base-voxceleb2",
            url=_LINKS[family].format(link),
            path=f"pretraining/voxceleb2/{folder}/checkpoint-99.pth",
            data_set="voxceleb2",
        )
    ]
    for (of_family, data_set), rows in _FINETUNED.items():
        if of_family != family:
            continue
        for fold, uar, war, link in rows:
            folder = f"finetuning/{data_set.lower()}/{family}_base_released"
            file = ReleasedFile(
                name=f"{family}-base-{data_set.lower()}" + f"-fold{fold}" * bool(fold),
                url=_LINKS[family].format(link),
                path=folder + f"/split{fold:02d}" * bool(fold) + "/checkpoint-99.pth",
                data_set=data_set,
                uar=uar,
                war=war,
            )
            files.append(file)
    return files


RELEASED = {file.name: file for family in _LINKS for file in _files(family)}


def find_released(patterns: Sequence[str]) -> list[ReleasedFile]:
    """Files by names or shell patterns ("svfap-base-dfew*"), each once; or ValueError."""
    chosen = set()
    for pattern in patterns:
        found = fnmatch.filter(RELEASED, pattern)
        if not found:
            hint = did_you_mean(pattern, RELEASED) or ":"
            raise ValueError(f"no released file {pattern!r}{hint} known are {', '.join(RELEASED)}.")
        chosen.update(found)
    return [file for name, file in RELEASED.items() if name in chosen]


def released_at(path: str) -> ReleasedFile | None:
    """The entry whose place below saved/model ends this path, or None."""
    parts = path.replace("\\", "/")
    matches = (file for file in RELEASED.values() if f"/{parts}".endswith(f"/{file.path}"))
    return next(matches, None)
