"""One door for weights: a path, a name of a catalogue, or `hf://owner/repo[@revision][/file]`.

The library huggingface_hub (extra `hub`) fetches files and keeps them; here the file is chosen, and
what it is gets known: the commit that was really used, and the licence.
"""

import functools
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from svfap.extras import install
from svfap.models.weights.public import NOT_STATED, PUBLIC, PublicWeights
from svfap.models.weights.released import RELEASED
from svfap.suggest import did_you_mean

logger = logging.getLogger(__name__)

SAFETENSORS = ".safetensors"
WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", SAFETENSORS)
SCHEME = "hf://"
RELEASED_DIR = Path("saved/model")  # where `models.download` puts them
SECONDS = 10  # that the Hub may take to answer
# Fetched, too, where they stand beside the weights; the model card, which states the licence.
_BESIDE, _CARD = ("config.json", "preprocessor_config.json"), "README.md"
_USUAL = ("model.safetensors", "pytorch_model.bin", "mp_rank_00_model_states.pt")
_NO_MODEL = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
_SOURCE = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@]+))?(?:/(?P<inside>[^/].*?))?/?"
)
_LISTED = 10


class SourceError(ValueError):
    """Weights that cannot be had from where they were named; says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """Weights that are here."""

    path: Path  # the file
    source: str  # what names it for ever: its path, or hf:// with commit and file
    licence: str | None = None  # in words; None of a file of the user's own
    # what a catalogue knows that the file cannot tell, as `models.open_weights` takes it
    told: dict = field(default_factory=dict)


def locate(source: str | Path) -> Located:
    """Find the file that a source names; fetch it if need be, and log its licence once.

    Args:
        source: path of a file or of a folder with one, which is tried first; name of
            `models.weights.public` or `.released`; or hf://owner/repo[@revision][/file or folder].
            Of a folder model.safetensors is taken, else the only file of weights there, safetensors
            before pickles. A revision is a branch, tag or commit, a slash in it written as %2F.

    Raises:
        FileNotFoundError: neither a file nor a name.
        SourceError: it cannot be had: no such repository, revision or file; not open to this user;
            offline and not kept here; no network; broken off; the extra is missing.
    """
    if is_remote(source):
        return _fetched(str(source))
    path = Path(source)
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.is_file())
        path = path / _choose(inside, "", str(source))
        return Located(path=path, source=str(path))
    if not path.is_file():
        hint = did_you_mean(str(source), [*PUBLIC, *RELEASED])
        raise FileNotFoundError(
            f"no weights at {path}: give the path of a .pth or .safetensors file, "
            f"hf://owner/repo, or a name of `python -m svfap.models.download --list`{hint}"
        )
    return Located(path=path, source=str(source))


def is_remote(source: str | Path) -> bool:
    """Whether a source is no path but hf:// or a name of a catalogue."""
    name = str(source)
    if name.startswith(SCHEME):
        return True
    return (name in PUBLIC or name in RELEASED) and not Path(name).exists()


@functools.cache
def _fetched(name: str) -> Located:
    """`locate` of what is no path; once per process, so that a run keeps to one commit."""
    if name in RELEASED:
        found = _downloaded(name)
    else:
        known = PUBLIC.get(name)
        found = _from_hub(known.source if known else name, known)
    free = found.licence and not re.search(r"non-commercial|not stated", found.licence)
    log = logger.info if free else logger.warning
    log("weights of others, %s; licence: %s", found.source, found.licence)
    return found


def _downloaded(name: str) -> Located:
    path = RELEASED_DIR / RELEASED[name].path
    if not path.is_file():
        raise SourceError(
            f"{name} is not in {path} yet: `python -m svfap.models.download {name}` fetches it "
            "(--from FILE takes one that was fetched by hand)."
        )
    return Located(path=path, source=str(path), licence=NOT_STATED)


def _from_hub(source: str, known: PublicWeights | None) -> Located:
    parts = _SOURCE.fullmatch(source)
    if not parts:
        raise SourceError(f"{source!r} is not hf://owner/repo[@revision][/file or folder].")
    repo, revision = parts["repo"], unquote(parts["revision"] or "main")
    with in_words(source, repo, revision) as library:
        names, online = _listing(library, repo, revision)
        name = _choose(names, parts["inside"] or "", source)
        fetch = functools.partial(
            library.hf_hub_download, repo, etag_timeout=SECONDS, local_files_only=not online
        )
        path = Path(fetch(name, revision=revision))
        folder = PurePosixPath(name).parent
        commit = path.parts[-1 - len(PurePosixPath(name).parts)]
        beside = {str(folder / other) for other in _BESIDE} | {_CARD}
        here = {other: fetch(other, revision=commit) for other in sorted(beside & set(names))}
    known = known or _entry_of(repo, name)
    return Located(
        path=path,
        source=f"{SCHEME}{repo}@{commit}/{name}",
        licence=known.licence if known else _licence(here.get(_CARD)),
        told=dict(known.told) if known else {},
    )


def _listing(library, repo: str, revision: str) -> tuple[list[str], bool]:
    """Names of the repository's files, or of those kept here where the Hub cannot be asked."""
    try:
        info = library.HfApi().model_info(repo, revision=revision, timeout=SECONDS)
        return [file.rfilename for file in info.siblings], True
    except library.errors.HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        why = error
    except Exception as error:  # what a transport raises depends on the library's version
        why = error
    kept_at = Path(library.constants.HF_HUB_CACHE)
    kept = library.scan_cache_dir(kept_at).repos if kept_at.is_dir() else ()
    for revisions in (one.revisions for one in kept if one.repo_id == repo):
        for one in revisions:
            if one.commit_hash == revision or revision in one.refs:
                root = one.snapshot_path
                return [file.file_path.relative_to(root).as_posix() for file in one.files], False
    raise why


def _choose(names: Sequence[str], inside: str, source: str) -> str:
    """The file of weights that is meant; SourceError where there is none, or several."""
    if inside in names:
        return inside
    below = [name for name in names if name.startswith(f"{inside}/" * bool(inside))]
    files = [
        name for name in below
        if name.endswith(WEIGHT_SUFFIXES) and not Path(name).name.startswith(_NO_MODEL)
    ]  # fmt: skip
    if not files:
        here = below or not inside
        what = f"{source} holds no weights" if here else f"{source}: no such file"
        near = ", ".join(sorted(below or names)[:_LISTED])
        raise SourceError(f"{what} ({', '.join(WEIGHT_SUFFIXES)}); there are {near or 'no files'}.")
    depth = min(name.count("/") for name in files)
    files = [name for name in files if name.count("/") == depth]
    files = [name for name in files if name.endswith(SAFETENSORS)] or files
    usual = [name for name in files if Path(name).name in _USUAL]
    if len(usual or files) == 1:
        return (usual or files)[0]
    listed = ", ".join(files[:_LISTED]) + ", ..." * (len(files) > _LISTED)
    parts = " Weights in several parts are not supported." * any("-of-0" in n for n in files)
    raise SourceError(f"{source} holds several files of weights; name one: {listed}.{parts}")


def _entry_of(repo: str, name: str) -> PublicWeights | None:
    """What the catalogue has about a file of a repository."""
    for known in PUBLIC.values():
        if f"{SCHEME}{repo}/{name}/".startswith(f"{known.source}/"):
            return known
    return None


def _licence(card: str | None) -> str:
    """The licence that a model card states, in words."""
    from huggingface_hub import metadata_load

    try:
        facts = (metadata_load(card) or {}) if card else {}
    except Exception:  # whatever a card holds, it is no reason not to use the weights
        facts = {}
    name = facts.get("license_name") or facts.get("license")
    if not isinstance(name, str) or not name.strip():
        return NOT_STATED
    commercial = re.search(r"\bnc\b|non-?commercial", name.lower().replace("_", "-"))
    return name + ": for non-commercial use only" * bool(commercial)


@contextmanager
def in_words(source: str, repo: str, revision: str) -> Iterator:
    """The library; what it raises becomes a `SourceError` that says what to do."""
    try:
        import huggingface_hub as library
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise SourceError(f"{source} needs huggingface_hub: {install('hub')}.") from error
    page = f"{constants.ENDPOINT}/{repo}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield library
    except SourceError:
        raise
    except errors.GatedRepoError as error:
        why = f"its owners ask for consent: give it at {page}, then {log_in}"
        raise SourceError(f"{source}: {why}.") from error
    except errors.RepositoryNotFoundError as error:
        why = f"there is no {page}, or it is private: then {log_in}"
        raise SourceError(f"{source}: {why}.") from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{source}: {page} has no revision {revision!r}.") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        why = "is not kept here, and HF_HUB_OFFLINE forbids to fetch it"
        if not constants.HF_HUB_OFFLINE:
            why = "could not be fetched (no network?) and is not kept here"
        raise SourceError(f"{source} {why}: {first_line(error)}") from error
    except Exception as error:  # what a transport raises depends on the library's version
        raise SourceError(
            f"{source} could not be fetched from {constants.ENDPOINT}: "
            f"{first_line(error)}. The same command again goes on; HF_HUB_OFFLINE=1 uses what "
            "is kept here."
        ) from error


def first_line(error: object) -> str:
    """The beginning of a message, without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    return text.splitlines()[0][:200]
