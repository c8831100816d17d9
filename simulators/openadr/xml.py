"""XML as OpenADR 2.0b uses it: written with fixed prefixes, read with bounds. No message's meaning.

Read is what a stranger has sent: without a document type (so no entities), and so many levels at most. Its size is its
receiver's to bound.
"""

import xml.etree.ElementTree as ET
from typing import Final
from xml.sax.saxutils import escape

NAMESPACES: Final = {
    "oadr": "http://openadr.org/oadr-2.0b/2012/07",
    "ei": "http://docs.oasis-open.org/ns/energyinterop/201110",
    "pyld": "http://docs.oasis-open.org/ns/energyinterop/201110/payloads",
    "emix": "http://docs.oasis-open.org/ns/emix/2011/06",
    "power": "http://docs.oasis-open.org/ns/emix/2011/06/power",
    "scale": "http://docs.oasis-open.org/ns/emix/2011/06/siscale",
    "xcal": "urn:ietf:params:xml:ns:icalendar-2.0",
    "strm": "urn:ietf:params:xml:ns:icalendar-2.0:stream",
}
MAX_DEPTH: Final = 32
_HEAD: Final = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())


class BadXmlError(Exception):
    """What was sent is no XML that is read here; the message says why."""


class Markup(str):
    """Written XML, which is not escaped again."""

    __slots__ = ()


def node(name: str, *inside: Markup | str | None) -> Markup:
    """An element with elements or text inside; None is nothing.

    >>> node("ei:eiResponse", node("ei:responseCode", "200"), None, node("pyld:requestID", "a<b"))
    '<ei:eiResponse><ei:responseCode>200</ei:responseCode><pyld:requestID>a&lt;b</pyld:requestID></ei:eiResponse>'
    """
    written = "".join(each if isinstance(each, Markup) else escape(each) for each in inside if each is not None)
    return Markup(f"<{name}>{written}</{name}>")


def document(name: str, *inside: Markup | None) -> bytes:
    """A whole message of that name."""
    written = "".join(each for each in inside if each is not None)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<oadr:oadrPayload{_HEAD}><oadr:oadrSignedObject>'
        f'<oadr:{name} ei:schemaVersion="2.0b">{written}</oadr:{name}></oadr:oadrSignedObject></oadr:oadrPayload>'
    ).encode()


class _Bounded(ET.TreeBuilder):
    """Builds the tree, as long as it is a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, name: str, *_: object) -> None:
        """Refuse it before anything in it is read."""
        message = f"a document type ({name}) is not allowed"
        raise BadXmlError(message)

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        """One level down."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            message = f"more than {MAX_DEPTH} levels"
            raise BadXmlError(message)
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        """One level up."""
        self._depth -= 1
        return super().end(tag)


def read(raw: bytes) -> ET.Element:
    """The message in a payload, as an element named like it.

    Raises:
        BadXmlError: it is no XML, not a plain one, or not one payload with one message.
    """
    parser = ET.XMLParser(target=_Bounded())  # noqa: S314 - bounded and without document types
    try:
        parser.feed(raw)
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        message = f"not XML: {error}"
        raise BadXmlError(message) from error
    signed = [] if root.tag != f"{{{NAMESPACES['oadr']}}}oadrPayload" else root.findall("{*}oadrSignedObject")
    if len(signed) != 1 or len(signed[0]) != 1:
        message = "not one oadrPayload with one oadrSignedObject with one message"
        raise BadXmlError(message)
    found: ET.Element = signed[0][0]
    return found


def name_of(element: ET.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def text_at(element: ET.Element, path: str) -> str:
    """The text below, by names with slashes, whatever their namespaces; empty where it is not."""
    found = element.find("/".join(f"{{*}}{name}" for name in path.split("/")))
    return (found.text or "").strip() if found is not None else ""


def all_at(element: ET.Element, path: str) -> list[ET.Element]:
    """The elements below, by names with slashes."""
    return element.findall("/".join(f"{{*}}{name}" for name in path.split("/")))
