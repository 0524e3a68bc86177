"""Regions, and the addresses that the services have there; pure.

Rules:

- What is built in serves those who say nothing: the clouds that are known, and their exceptions.
- A region that is not known gets the address that the largest cloud would give it, and a doubt.
- The vendor's own variables and file speak of single regions; their addresses are only found here,
  and checked where settings are.
"""

import difflib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Api(StrEnum):
    """Who is spoken to; the value is its name in addresses, variables and files."""

    CSS = "css"
    IAM = "iam"


_DOMAIN = "myhuaweicloud.com"

TEMPLATES: Mapping[Api, str] = MappingProxyType(
    {api: f"https://{api}.{{region}}.{_DOMAIN}" for api in Api}
)
"""The addresses of most regions; set to these, an endpoint is as good as not set."""

EVERYWHERE = ""
"""In place of a region: all of them."""

GLOBAL_IAM = f"https://iam.{_DOMAIN}"
"""The address of IAM for regions without one of their own, and for those who name no region."""

_T_SYSTEMS = "otc.t-systems.com"
_DOMAINS = {
    "eu-west-101": "myhuaweicloud.eu",
    "eu-de": _T_SYSTEMS,
    "eu-nl": _T_SYSTEMS,
}
"""Regions of other clouds of the family, and their domains."""

_OLD_NAME = "es"
_UNDER_OLD_NAME = frozenset({"cn-north-1", "cn-east-2"})

_WITH_CSS = frozenset({
    "af-north-1", "af-south-1", "ae-ad-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3",
    "ap-southeast-4", "ap-southeast-5", "cn-east-2", "cn-east-3", "cn-east-4", "cn-east-5",
    "cn-north-1", "cn-north-2", "cn-north-4", "cn-north-9", "cn-north-11", "cn-north-12",
    "cn-south-1", "cn-south-2", "cn-south-4", "cn-southwest-2", "cn-southwest-3", "eu-de",
    "eu-west-101", "la-north-2", "la-south-2", "me-east-1", "my-kualalumpur-1", "na-mexico-1",
    "ru-moscow-1", "sa-brazil-1", "tr-west-1",
})  # fmt: skip
_WITH_IAM = frozenset({
    "ae-ad-1", "af-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4",
    "cn-east-2", "cn-east-3", "cn-east-4", "cn-east-5", "cn-north-1", "cn-north-12", "cn-north-2",
    "cn-north-4", "cn-north-9", "cn-south-1", "cn-south-2", "cn-southwest-2", "eu-de", "eu-nl",
    "eu-west-0", "eu-west-101", "la-north-2", "la-south-2", "me-east-1", "my-kualalumpur-1",
    "na-mexico-1", "ru-moscow-1", "sa-brazil-1", "tr-west-1",
})  # fmt: skip
"""Regions with an IAM of their own; all others share the global one."""


def usual_address(api: Api, region: str) -> str:
    """Return the address that is built in for a region, known or not."""
    if api is Api.IAM and region not in _WITH_IAM:
        return GLOBAL_IAM
    is_old = api is Api.CSS and region in _UNDER_OLD_NAME
    name = _OLD_NAME if is_old else api.value
    return f"https://{name}.{region}.{_DOMAINS.get(region, _DOMAIN)}"


def is_known(region: str) -> bool:
    """Return whether the service is known to be in a region."""
    return region in _WITH_CSS


def nearest_known(region: str) -> str | None:
    """Return the known region whose name comes nearest, if one is near at all."""
    near = difflib.get_close_matches(plain(region), sorted(_WITH_CSS), n=1)
    return near[0] if near else None


# ----------------------------------------------------------------------------- the vendor's words

_VARIABLE = "HUAWEICLOUD_SDK_REGION_"
_IAM_VARIABLE = "HUAWEICLOUD_SDK_IAM_ENDPOINT"

FILE_VARIABLE = "HUAWEICLOUD_SDK_REGIONS_FILE"
"""The variable that names the vendor's file of regions."""

FILE_NAME = ".huaweicloud/regions.yaml"
"""The vendor's file of regions in the home folder, where no variable names one."""


class Told(NamedTuple):
    """An address that the vendor's words give, not yet looked at."""

    api: Api
    region: str
    """In its plain form, see `plain`; `EVERYWHERE` for all."""
    address: str
    source: str
    """The variable, or the place in the file."""


def plain(region: str) -> str:
    """Return a region as it is looked up: variables spell it CN_NORTH_4."""
    return region.lower().replace("_", "-")


def told_by_variables(environ: Mapping[str, str]) -> Iterator[Told]:
    """Yield the addresses that variables give; the first where one has several."""
    for name in sorted(environ):
        address = _first(environ[name])
        if not address:
            continue
        if name == _IAM_VARIABLE:
            yield Told(Api.IAM, EVERYWHERE, address, name)
        for api in Api:
            prefix = f"{_VARIABLE}{api.upper()}_"
            if name.startswith(prefix) and name != prefix:
                yield Told(api, plain(name.removeprefix(prefix)), address, name)


def told_by_file(document: object) -> Iterator[Told]:
    """Yield the addresses in the content of the vendor's file.

    Raises:
        ValueError: it is no such file, with words for the operator.
    """
    match document:
        case None:
            return
        case dict():
            for title, regions in document.items():
                api = next((one for one in Api if one == str(title).lower()), None)
                if api is not None:
                    yield from _told_by_list(api, regions, str(title))
        case _:
            raise ValueError("holds no services; write css: and a list of regions under it")


def _told_by_list(api: Api, regions: object, title: str) -> Iterator[Told]:
    match regions:
        case list():
            for number, entry in enumerate(regions, 1):
                yield _told_by_entry(api, entry, f"{title}, entry {number}")
        case _:
            raise ValueError(f"{title}: holds no list of regions; write - id: and endpoint:")


def _told_by_entry(api: Api, entry: object, place: str) -> Told:
    match entry:
        case {"id": str() as region, **rest}:
            addresses = rest.get("endpoints")
            several = addresses if isinstance(addresses, list) else []
            for given in (*several, rest.get("endpoint")):
                address = _first(given) if isinstance(given, str) else ""
                if address:
                    return Told(api, plain(region), address, place)
            raise ValueError(f"{place}: has no endpoint; write the address of {region} there")
        case _:
            raise ValueError(f"{place}: has no id; write the name of its region there")


def _first(addresses: str) -> str:
    """Return the first of several addresses; without a scheme it is https."""
    first = addresses.partition(",")[0].strip()
    return first if not first or "://" in first else f"https://{first}"
