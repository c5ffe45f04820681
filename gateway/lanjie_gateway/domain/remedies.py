"""What the subject of an effect may do against it (救济, Art. 31, 64, 71): no effect leaves without it.

1. What the decision document itself says goes first (Art. 31).
2. Else what its list type says, by the catalogue that publishes it.
3. Else what the regulation says of everybody (Art. 64, 71).
"""

from collections.abc import Callable, Iterable
from typing import Final

from lanjie_matcher.catalogues import ListType
from lanjie_matcher.listings import Listing

STATUTORY: Final = (
    "认为相关具体行政行为侵犯其合法权益的，可以依法申请行政复议或者提起行政诉讼（《江苏省社会信用条例》第七十一条）；"
    "认为信息存在错误、遗漏或者侵害其合法权益的，可以提出书面异议（第六十四条）。"
)
"""Where neither the document nor the list type tells."""
CHANNEL: Final = (
    "向信息提供单位或者公共信用信息工作机构提出书面异议申请，并说明理由（《江苏省社会信用条例》第六十四条）"
)
"""Where neither the list type nor the gateway's setting names an objection channel."""


def remedies_of(listing: Listing, list_type: ListType | None) -> str:
    """Return the remedies against a listing; never empty."""
    return listing.remedies or (list_type.remedies if list_type else "") or STATUTORY


def channel_of(list_type: ListType | None, setting: str) -> str:
    """Return where to object to listings of a list type; never empty."""
    return (list_type.objection_channel if list_type else "") or setting or CHANNEL


def told(listings: Iterable[Listing], list_type: Callable[[str], ListType | None], setting: str) -> tuple[str, str]:
    """Return remedies and objection channels of the listings of an answer, each once; empty where there is none."""
    types = [(listing, list_type(listing.list_type)) for listing in listings]
    remedies = dict.fromkeys(remedies_of(listing, of) for listing, of in types)
    channels = dict.fromkeys(channel_of(of, setting) for _, of in types)
    return "\n".join(remedies), "\n".join(channels)
