"""Share links: which address delivers the file, and what a web page in its place means."""

import html
import html.parser
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

_DRIVE_HOSTS = ("drive.google.com", "drive.usercontent.google.com", "docs.google.com")
_ONEDRIVE_HOSTS = ("onedrive.live.com", "1drv.ms")
# Signs on a page, in lower case, and what they mean; the first that is found counts.
_SIGNS = (
    (("login.microsoftonline.com", "accounts.google.com", "sign in to your account", "sign in -",
      "please log in", "anmelden", "log-in page"), "a log-in page"),
    (("link has expired", "expired link", "link has been removed", "this link was removed",
      "no longer available", "item might not exist", "file you requested does not exist"),
     "a page saying that the link has expired or was removed"),
    (("quota exceeded", "too many users have viewed or downloaded"),
     "a page saying that too many people fetched the file today"),
    (("access denied", "you need access", "request access"), "a page denying access"),
    (("captcha", "are you a robot", "unusual traffic"), "a page asking whether you are a robot"),
)  # fmt: skip


def direct_link(url: str) -> str:
    """The address that delivers the file behind a share link.

    Knows OneDrive and SharePoint (download=1), Google Drive (by file id), Hugging Face (resolve
    instead of blob) and Dropbox (dl=1); other addresses stay as they are.

    Args:
        url: http or https address.

    Raises:
        ValueError: another kind of address.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url!r} is not an http or https address; --from takes files of yours.")
    if host in _DRIVE_HOSTS:
        file_id = _drive_id(url)
        query = urlencode({"id": file_id, "export": "download", "confirm": "t"})
        return f"https://drive.usercontent.google.com/download?{query}" if file_id else url
    if host.endswith(".sharepoint.com") or host in _ONEDRIVE_HOSTS:
        return _with_query(url, download="1")
    if host in ("huggingface.co", "hf.co"):
        return url.replace("/blob/", "/resolve/", 1)
    if host in ("dropbox.com", "www.dropbox.com"):
        return _with_query(url, dl="1")
    return url


def looks_like_page(content_type: str, start: bytes) -> bool:
    """Whether a response is a web page: by its type, or by the first bytes of its body."""
    if content_type.split(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
        return True
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
    return text.startswith((b"<!doctype html", b"<html"))


def confirmation_link(page: str, address: str) -> str | None:
    """Where the "download anyway" button of Google Drive's warning page leads, or None.

    Files too large for Drive's virus scan come behind a page with a form, formerly a link.

    Args:
        page: HTML.
        address: the page's own address; the button must lead to its host or to Google.
    """
    parser = _Forms()
    parser.feed(page)
    for form in parser.forms:
        if "confirm" in form.fields or form.name == "download-form":
            target = urljoin(address, form.action)
            return _trusted(_with_query(target, **form.fields), address)
    link = re.search(r'href="([^"]*[?&;]confirm=[^"]*)"', page)
    if link:
        return _trusted(urljoin(address, html.unescape(link.group(1))), address)
    return None


def describe_page(page: str, address: str) -> str:
    """What a web page that came instead of a file is, in a few words.

    Args:
        page: HTML.
        address: the page's address after redirects.
    """
    text = f"{address}\n{page}".lower()
    for signs, meaning in _SIGNS:
        if any(sign in text for sign in signs):
            return meaning
    title = re.search(r"<title[^>]*>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    name = " ".join(html.unescape(title.group(1)).split())[:80] if title else ""
    return f"a web page titled {name!r}" if name else "a web page"


@dataclass
class _Form:
    name: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(html.parser.HTMLParser):
    """Collects the forms of a page with their input fields."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[_Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(_Form(values.get("id", ""), values.get("action", "")))
        elif tag == "input" and self.forms and values.get("name"):
            self.forms[-1].fields[values["name"]] = values.get("value", "")


def _drive_id(url: str) -> str | None:
    parts = urlsplit(url)
    in_path = re.search(r"/d/([\w-]{10,})", parts.path)
    return in_path.group(1) if in_path else dict(parse_qsl(parts.query)).get("id")


def _with_query(url: str, **fields: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | fields
    return urlunsplit(parts._replace(query=urlencode(query)))


def _trusted(target: str, address: str) -> str | None:
    host, own = urlsplit(target).hostname or "", urlsplit(address).hostname
    return (
        target if host == own or host.endswith((".google.com", ".googleusercontent.com")) else None
    )
