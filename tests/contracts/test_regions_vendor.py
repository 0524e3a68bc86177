"""The vendor's own tables of regions, its variables and its file, against what we make of them."""

import os
from pathlib import Path

import pytest
import yaml

from orchestrator.config import CloudSettings, load_settings
from orchestrator.regions import GLOBAL_IAM, Api, is_known, told_by_file, usual_address

pytest.importorskip("huaweicloudsdkcss", reason="the vendor's client is not installed")

from huaweicloudsdkcore.auth.endpoint import get_iam_endpoint_by_id
from huaweicloudsdkcore.region.cache import ProfileRegionCache
from huaweicloudsdkcore.region.provider import EnvRegionProvider
from huaweicloudsdkcss.v1.region.css_region import CssRegion

EUROPE = "eu-west-101"
"""Where we follow the documentation, not the client."""

ELSEWHERE = {"eu-de", "eu-nl"}
"""Clouds of the family that the vendor's client knows nothing of."""

FILE = """
css:
  - {id: cn-north-4, endpoint: https://one.example.org}
  - {id: cn-south-1, endpoints: [https://two.example.org, https://three.example.org]}
  - {id: cn-east-3, endpoint: https://five.example.org, endpoints: [https://four.example.org]}
IAM:
  - {id: cn-north-4, endpoint: https://iam.example.org}
obs:
  - {id: cn-north-4, endpoint: https://obs.example.org}
"""


def load(environ: dict[str, str], cwd: Path) -> CloudSettings:
    return load_settings(
        options={}, environ=environ, config_file=None, cwd=cwd, user_config=None
    ).cloud


def test_addresses_of_the_service() -> None:
    """Every region that the vendor knows is known, at the very address."""
    assert len(CssRegion.static_fields) >= 32
    for region, known in CssRegion.static_fields.items():
        assert is_known(region)
        if region != EUROPE:
            assert [usual_address(Api.CSS, region)] == known.endpoints


def test_addresses_of_iam() -> None:
    """IAM is asked where the vendor asks it, also in regions where it has no address of its own."""
    for region in CssRegion.static_fields:
        if region not in {EUROPE, *ELSEWHERE}:
            theirs = get_iam_endpoint_by_id(region, GLOBAL_IAM)
            assert usual_address(Api.IAM, region) == theirs, region
    assert usual_address(Api.IAM, "nowhere-1") == get_iam_endpoint_by_id("nowhere-1", GLOBAL_IAM)


def test_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable gives the vendor's client the address that it gives us."""
    name = "HUAWEICLOUD_SDK_REGION_CSS_MY_KUALALUMPUR_1"
    monkeypatch.setenv(name, "https://a.example.org,https://b.example.org")
    region = EnvRegionProvider("CSS").get_region("my-kualalumpur-1")
    ours = load({name: os.environ[name]}, tmp_path)
    assert ours.endpoint_for("p", "my-kualalumpur-1") == region.endpoints[0]


def test_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file gives the vendor's client the addresses that it gives us, the first of several."""
    path = tmp_path / "regions.yaml"
    path.write_text(FILE)
    monkeypatch.setenv("HUAWEICLOUD_SDK_REGIONS_FILE", str(path))
    theirs = ProfileRegionCache._resolve_profile()
    told = list(told_by_file(yaml.safe_load(FILE)))
    assert len(told) == 4
    for one in told:
        assert theirs[one.api.upper() + one.region].endpoints[0] == one.address
    ours = load({"HUAWEICLOUD_SDK_REGIONS_FILE": str(path)}, tmp_path)
    assert ours.endpoint_for("p", "cn-east-3") == "https://four.example.org"
    assert ours.iam_endpoint_for("p", "cn-north-4") == "https://iam.example.org"
